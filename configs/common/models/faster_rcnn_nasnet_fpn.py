# Faster R-CNN with a NASNet under an FPN: Mask R-CNN without its mask head.
from .mask_rcnn_nasnet_fpn import model

for name in ("mask_in_features", "mask_pooler", "mask_head"):
    model.roi_heads.pop(name)
