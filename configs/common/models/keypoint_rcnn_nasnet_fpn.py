# Keypoint R-CNN with a NASNet under an FPN: Detectron2's own lazy model with another backbone.
from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from nasnet_det.detection.lazy_config import put_nasnet

model = put_nasnet(model_zoo.get_config("common/models/keypoint_rcnn_fpn.py").model)
# Detectron2's is an object, which a YAML can't hold.
model.roi_heads.keypoint_head.input_shape = L(ShapeSpec)(channels=256, width=14, height=14)
