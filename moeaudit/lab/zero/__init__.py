"""Zero experts: a trained router learns to send tokens to nobody (ZEDA, arXiv 2605.18643)."""

from .add import add_zero_experts as add_zero_experts
from .add import half_top_k as half_top_k
from .add import target_share as target_share
from .distill import Distillation as Distillation
from .distill import self_distill as self_distill
from .loss import group_loss as group_loss
from .mechanism import ZeroExperts as ZeroExperts
from .share import flops_saved as flops_saved
from .share import token_classes as token_classes
from .share import zero_picks as zero_picks
from .share import zero_share as zero_share

__all__ = [
    "Distillation",
    "ZeroExperts",
    "add_zero_experts",
    "flops_saved",
    "group_loss",
    "half_top_k",
    "self_distill",
    "target_share",
    "token_classes",
    "zero_picks",
    "zero_share",
]
