"""What pyproject.toml can not say: the folder ``configs/`` is installed as ``nasnet_det/configs``.

It lies at the root of the checkout, where users look for it, as in Detectron2. Its sub-folders
(``COCO-Detection``) are data, not packages.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["nasnet_det", "nasnet_det.*"]), "nasnet_det.configs"],
    package_dir={"nasnet_det.configs": "configs"},
    package_data={
        "nasnet_det.configs": ["**/*.yaml", "**/*.json", "**/*.py"],
        "nasnet_det.report": ["templates/*"],
        "nasnet_det.weights": ["files/*"],
    },
)
