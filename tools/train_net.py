"""``nasnet-det train`` under the name and with the arguments of Detectron2's own tool.

python tools/train_net.py --config-file COCO-Detection/faster_rcnn_nasnet_a_mobile_FPN_1x.yaml
python tools/train_net.py --config-file my.yaml --eval-only MODEL.WEIGHTS output/model_best.pth
"""

import sys

from nasnet_det.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
