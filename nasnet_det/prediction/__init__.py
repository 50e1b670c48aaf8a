"""Pictures and videos through a detector, whatever computes it; needs no Detectron2."""

from nasnet_det.prediction.writing import Predicted, write_predictions

__all__ = ["Predicted", "write_predictions"]
