"""The second half of the paper's detector: the cells behind stride 16, run on each region.

Source: TensorFlow's faster_rcnn_nas_feature_extractor.py. It corresponds to Detectron2's
``Res5ROIHeads``, with the remaining NASNet cells in the place of a ResNet's last stage.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.roi_heads import Res5ROIHeads
from detectron2.structures import Boxes
from torch import nn

from nasnet_det.detection.backbone import advance_drop_path, feature_rows
from nasnet_det.detection.config import network_arguments
from nasnet_det.genotype import Genotype
from nasnet_det.network_config import config_errors, resolve_network
from nasnet_det.plan import plan_cells
from nasnet_det.trunk import NASNetTrunk

REGIONS_AT_ONCE = 32
"""NASNet-A large needs 150 MB for the crops of so many, and as much for what its cells hold."""


class NASNetBoxHead(nn.Module):
    """The cells behind the feature ``c4``, from the pair of states that the C4 backbone returns.

    The arguments mean what they mean to
    :class:`~nasnet_det.detection.backbone.NASNetBackbone`, and are the same as there.
    """

    def __init__(
        self,
        variant: str = "nasnet_a_mobile",
        *,
        genotype: Genotype | str | None = None,
        channels_last: bool = False,
        activation_checkpointing: bool = False,
        drop_path_prob: float = 0.0,
        drop_path_iters: int = 0,
        **spec_overrides: Any,
    ) -> None:
        super().__init__()
        spec, cells = resolve_network(
            variant, genotype, drop_path_prob=drop_path_prob, **spec_overrides
        )
        row = feature_rows(spec, cells)["c4"]
        names = [other.name for other in plan_cells(spec, cells)]
        self.trunk = NASNetTrunk(
            spec,
            cells,
            start=names[names.index(row.name) + 1],
            out_features=(),
            activation_checkpointing=activation_checkpointing,
        )
        self.channels_last = channels_last
        if channels_last:
            self.trunk.to(memory_format=torch.channels_last)
        self.drop_path_iters = drop_path_iters
        self.state_channels = [row.h_channels, row.out_channels]
        self.out_channels = self.trunk.plan[-1].out_channels

    def forward(self, regions: torch.Tensor) -> torch.Tensor:
        """Run the cells on cropped regions.

        Args:
            regions: (R, pair channels, S, S), crops of ``c4``.

        Returns:
            (R, out_channels, ceil(S / 2), ceil(S / 2)), after ReLU.
        """
        if not torch.jit.is_scripting():
            advance_drop_path(self.trunk, self.drop_path_iters)
        if self.channels_last:
            regions = regions.contiguous(memory_format=torch.channels_last)
        h_prev, h = regions.split(self.state_channels, dim=1)
        _, out, _ = self.trunk.run(h_prev, h)
        return F.relu(out)


@ROI_HEADS_REGISTRY.register()
class NASNetROIHeads(Res5ROIHeads):
    """ROI heads of the C4 detector: crop ``c4``, run the remaining cells, average, predict.

    The crop's size is ``MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION``, 17 in the paper's system. The cells
    are called ``res5``, as in the class that does the rest of the work. Outside training they run
    on :data:`REGIONS_AT_ONCE` regions at a time, which bounds the memory of crops and cells.
    """

    @classmethod
    def _build_res5_block(cls, cfg: CfgNode) -> tuple[NASNetBoxHead, int]:
        with config_errors():
            head = NASNetBoxHead(
                **network_arguments(cfg), channels_last=cfg.MODEL.NASNET.CHANNELS_LAST
            )
        return head, head.out_channels

    def _shared_roi_transform(
        self, features: list[torch.Tensor], boxes: list[Boxes]
    ) -> torch.Tensor:
        if not torch.jit.is_scripting():
            keeps_graph = self.training or torch.is_grad_enabled() or torch.jit.is_tracing()
            if not keeps_graph:  # a trace knows no number of regions
                return self._transform_in_parts(features, boxes)
        return self.res5(self.pooler(features, boxes))

    @torch.jit.unused
    def _transform_in_parts(self, features: list[torch.Tensor], boxes: list[Boxes]) -> torch.Tensor:
        outs = []
        for i, of_image in enumerate(boxes):
            maps = [feature[i : i + 1] for feature in features]
            for start in range(0, max(len(of_image), 1), REGIONS_AT_ONCE):
                part = of_image[start : start + REGIONS_AT_ONCE]
                outs.append(self.res5(self.pooler(maps, [part])))
        return torch.cat(outs)
