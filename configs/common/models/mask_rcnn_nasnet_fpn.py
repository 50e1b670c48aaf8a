# Mask R-CNN with a NASNet under an FPN: Detectron2's own lazy model with another backbone.
from detectron2 import model_zoo

from nasnet_det.detection.lazy_config import put_nasnet

model = put_nasnet(model_zoo.get_config("common/models/mask_rcnn_fpn.py").model)
