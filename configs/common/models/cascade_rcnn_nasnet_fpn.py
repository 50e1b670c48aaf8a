# Cascade R-CNN with a NASNet under an FPN, for boxes: Detectron2's own lazy model without masks.
from detectron2 import model_zoo

from nasnet_det.detection.lazy_config import put_nasnet

model = put_nasnet(model_zoo.get_config("common/models/cascade_rcnn.py").model)
for name in ("mask_in_features", "mask_pooler", "mask_head"):
    model.roi_heads.pop(name)
