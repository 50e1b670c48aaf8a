"""What Detectron2 raises when it builds a model from a config that can't be one, as a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import extract_tb

from detectron2.config import CfgNode

from nasnet_det.config import ConfigError


@contextmanager
def explain_build_errors(cfg: CfgNode) -> Iterator[None]:
    """Build a model of a config inside; what can't be built is the config's fault.

    Raises:
        ConfigError: in place of what Detectron2 raises.
    """
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, AssertionError) as error:  # Detectron2 asserts what a config may say
        # Many say nothing: then the condition itself.
        reason = str(error) or extract_tb(error.__traceback__)[-1].line or "no reason given"
        raise ConfigError(f"the model can't be built: {' '.join(reason.split())}") from error
    except ImportError as error:
        if "detectron2._C" not in str(error):
            raise
        operation = re.search(r"'(\w+)' is not available", str(error))
        raise ConfigError(
            f"the model can't be built: {operation[1] if operation else 'a part of it'} needs "
            "Detectron2's compiled operations, which this Detectron2 lacks; choose a part "
            "without it, or compile Detectron2"
        ) from error
    except KeyError as error:
        keys = [f"MODEL.{name}.IN_FEATURES" for name in ("RPN", "ROI_HEADS", "RETINANET")]
        nodes = (cfg.MODEL.RPN, cfg.MODEL.ROI_HEADS, cfg.MODEL.RETINANET)
        if not any(error.args[0] in node.IN_FEATURES for node in nodes):
            raise
        raise ConfigError(
            f"the model can't be built: {cfg.MODEL.BACKBONE.NAME} has no feature "
            f"{error.args[0]!r}; see {', '.join(keys)}"
        ) from error
