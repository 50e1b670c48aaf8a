# Panoptic FPN with a NASNet: Detectron2's own lazy model with another backbone.
from detectron2 import model_zoo

from nasnet_det.detection.lazy_config import put_nasnet

model = put_nasnet(model_zoo.get_config("common/models/panoptic_fpn.py").model)
