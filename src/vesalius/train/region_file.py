"""What a run folder keeps of stage 2 beside the text encoder: ``network.yaml`` and ``regions.safetensors``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from vesalius.errors import FolderError
from vesalius.folder import write_text, writing
from vesalius.model.region_model import RegionModel, RegionModelSize
from vesalius.train.config import from_yaml, to_yaml

NETWORK = "network.yaml"
REGIONS = "regions.safetensors"
ENCODER_PREFIX = "encoder."


@dataclass(frozen=True, kw_only=True)
class RegionWeights:
    """Region encoder, projections, modality embedding and logit scales of a run.

    Attributes:
        run: the folder they come from, for messages.
        size: shape of the network.
        tensors: parameter of `RegionModel` → value, the text encoder's left out.
        region_keys: the structures (`Region.key`) they were trained on; none where that is not known.
    """

    run: Path
    size: RegionModelSize
    tensors: Mapping[str, Tensor]
    region_keys: list[str]

    def load_into(self, model: RegionModel) -> None:
        """Sets all parameters of `model` but its text encoder's.

        Raises:
            FolderError: the weights are not those of ``network.yaml``.
        """
        try:
            outcome = model.load_state_dict(dict(self.tensors), strict=False)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise FolderError(f"does not fit {NETWORK} ({reason})", where=self.run / REGIONS, remedy=_REMEDY) from error
        lacking = [name for name in outcome.missing_keys if not name.startswith(ENCODER_PREFIX)]
        if lacking or outcome.unexpected_keys:
            names = ", ".join([*lacking, *outcome.unexpected_keys][:3])
            raise FolderError(f"does not fit {NETWORK} ({names})", where=self.run / REGIONS, remedy=_REMEDY)


_REMEDY = "make the run again"


def write_region_weights(run: Path, model: RegionModel, *, region_keys: Sequence[str]) -> None:
    """Writes all of `model` but its text encoder into the run folder `run`."""
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.state_dict().items()
        if not name.startswith(ENCODER_PREFIX)
    }
    write_text(run / NETWORK, to_yaml(model.size))
    with writing(run / REGIONS) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={"region_keys": "\n".join(region_keys)})


def read_region_weights(run: Path) -> RegionWeights | None:
    """Returns what `write_region_weights` left in a run folder; None where there is nothing.

    Raises:
        FolderError: a file is missing or damaged.
    """
    if not (run / REGIONS).exists():
        return None
    if not (run / NETWORK).is_file():
        raise FolderError(f"a run without {NETWORK}", where=run, remedy=_REMEDY)
    size = from_yaml(RegionModelSize, run / NETWORK)
    try:
        with safetensors.safe_open(run / REGIONS, framework="pt") as file:
            keys = file.metadata()["region_keys"].splitlines()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise FolderError(f"cannot be read ({error})", where=run / REGIONS, remedy=_REMEDY) from error
    return RegionWeights(run=run, size=size, tensors=tensors, region_keys=keys)
