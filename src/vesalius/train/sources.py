"""What can be converted: a run, a sentence-transformers folder, a checkpoint in the published layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from vesalius.errors import FolderError, InputError, SettingError
from vesalius.folder import Origin, origins_of, sha256_of
from vesalius.model.aligner import PromptProjection
from vesalius.model.region_model import RegionModel
from vesalius.model.sat import check_sat_file, prompt_projection, published_tensors, region_model, with_duplicates
from vesalius.model.sat_file import SatFile, Stage, Tokens, read_sat_file
from vesalius.model.sat_text import TOWER_KINDS, text_tower, tokens_of
from vesalius.model.text_encoder import TextEncoder
from vesalius.train.config import CONFIG
from vesalius.train.region_file import read_region_weights
from vesalius.train.run import ENCODER, read_run, validation_of

AUTHORS_TERMS = "the authors' own terms; their repository states no licence"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a model card says of a source.

    Attributes:
        title: heading.
        origins: what the weights were made from.
        recipe: how: settings as YAML, or a sentence.
        results: table; None where nothing was measured.
        results_title: heading of the table.
    """

    title: str
    origins: Sequence[Origin]
    recipe: str
    results: dict[str, list[str]] | None = None
    results_title: str = "Results"


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """A checkpoint in the published layout.

    Attributes:
        file: the checkpoint.
        base: the model its text tower was trained from.
    """

    file: SatFile
    base: str | None

    @property
    def description(self) -> str:
        """One line that says what it is."""
        return self.file.describe()

    @property
    def step(self) -> int | None:
        """Step it was saved at."""
        return self.file.step

    @property
    def stage(self) -> Stage:
        """Stage it was saved in."""
        return self.file.stage

    @property
    def last_gelu(self) -> bool:
        """Whether a GELU closes the region projection."""
        return self.file.last_gelu

    @property
    def tokens(self) -> Tokens:
        """What the text tower reads around a text."""
        return self.file.tokens

    def facts(self) -> Facts:
        """Returns where the file comes from; its terms are its authors'."""
        name = self.file.path.name
        tokens = "published: `[CLS]` … `[SEP]`, padding id 0" if self.tokens == "published" else "by its own model"
        return Facts(
            title="Vesalius text encoder" if self.file.origins else "Text encoder of SAT-Pretrain",
            origins=self.file.origins or self._published_origins(),
            recipe=f"Imported from {name} ({self.description}); not trained further. "
            f"Texts are tokenised as {tokens}, at most 256 tokens.",
        )

    def _published_origins(self) -> list[Origin]:
        name, hub = self.file.path.name, TOWER_KINDS[self.file.tower].hub
        return [
            Origin(
                name="SAT-Pretrain",
                version=f"{name}: {self.description}",
                licence=AUTHORS_TERMS,
                attribution="Zhao et al., arXiv 2312.17183; npj Digital Medicine 8:566 (2025). Trained by them on UMLS, "
                "anatomy sites and public segmentation datasets, each under terms of its own",
                sha256={name: sha256_of(self.file.path)},
            ),
            Origin(
                name=hub,
                version="",
                licence="its authors' own terms",
                attribution=f"{hub}, the text tower their training started from",
            ),
        ]

    @cached_property
    def _encoder(self) -> TextEncoder:
        if self.base is None:
            raise SettingError(
                "the file holds weights only, no vocabulary and no settings of its text tower",
                where=self.file.path,
                remedy=f"give --base: the folder of the model it was trained from, or hub:{TOWER_KINDS[self.file.tower].hub}",
            )
        return text_tower(self.file, self.base)

    def encoder(self) -> TextEncoder:
        """Returns the text tower, with the tokenisation it was trained under.

        Raises:
            SettingError: `base` is None.
            InputError: `base` does not fit.
        """
        return self._encoder

    def prompts(self) -> PromptProjection | None:
        """Returns text projection and modality embedding; None where there are none."""
        return prompt_projection(self.file) if self.file.has_prompts else None

    def model(self) -> RegionModel | None:
        """Returns the whole model; None where there is a text side alone."""
        return region_model(self.file, self._encoder) if self.file.has_regions else None

    def published(self) -> dict[str, Tensor]:
        """Returns the tensors of the file itself; a `base` that was given must fit."""
        if self.base is not None:
            self.encoder()
        return with_duplicates(self.file.tensors)


class FolderSource:
    """A sentence-transformers folder.

    Args:
        path: the folder.
    """

    step: int | None = None
    stage: Stage = 1
    last_gelu = True
    description = "sentence-transformers folder"

    def __init__(self, path: Path) -> None:
        self._path = path

    def facts(self) -> Facts:
        """Returns its name; all else stands in its own model card."""
        name = self._path.resolve().name
        origin = Origin(
            name=name, version="", licence="as its own model card says", attribution=f"the encoder folder {name}"
        )
        return Facts(
            title=f"Text encoder {name}", origins=[origin], recipe=f"Converted from {name}; not trained further."
        )

    @cached_property
    def _encoder(self) -> TextEncoder:
        return TextEncoder.load(self._path)

    def encoder(self) -> TextEncoder:
        """Returns the text encoder."""
        return self._encoder

    @property
    def tokens(self) -> Tokens:
        """What the text encoder reads around a text."""
        return tokens_of(self._encoder)

    def prompts(self) -> PromptProjection | None:
        """Returns None: such a folder has no projection of its own."""
        return None

    def model(self) -> RegionModel | None:
        """Returns None."""
        return None

    def published(self) -> dict[str, Tensor]:
        """Returns the weights of the text tower."""
        return published_tensors(self._encoder, None)


class RunSource:
    """A finished run of Vesalius.

    Args:
        path: the run folder.

    Raises:
        FolderError: it is no finished run.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._manifest = read_run(path)
        if self._manifest.get("stage") not in ("text", "regions"):
            raise FolderError("a run that does not say its stage", where=path, remedy="make the run again")

    @property
    def description(self) -> str:
        """One line that says what it is."""
        return f"run, stage {self.stage} ({self._manifest['stage']})"

    @property
    def step(self) -> int | None:
        """Step its weights are of; of an imported run, the checkpoint's."""
        return self._manifest.get("step") or validation_of(self._path, None)[0] or None

    @property
    def stage(self) -> Stage:
        """1 after `train text`, 2 after `train regions`."""
        return 2 if self._manifest["stage"] == "regions" else 1

    @property
    def last_gelu(self) -> bool:
        """Whether a GELU closes the region projection."""
        return self._model is None or self._model.size.last_gelu

    @property
    def tokens(self) -> Tokens:
        """What the text encoder reads around a text."""
        return tokens_of(self._encoder)

    def facts(self) -> Facts:
        """Returns every setting of the run, its data and the validation of its weights."""
        config = self._path / CONFIG
        step, results = validation_of(self._path, self._manifest.get("step"))
        return Facts(
            title=f"Vesalius text encoder after the {self._manifest['stage']} stage",
            origins=origins_of(self._manifest),
            recipe=config.read_text(encoding="utf-8") if config.is_file() else str(self._manifest.get("recipe", "")),
            results=results,
            results_title=f"Validation after step {step}" if results else "Results",
        )

    @cached_property
    def _encoder(self) -> TextEncoder:
        return TextEncoder.load(self._path / ENCODER)

    @cached_property
    def _model(self) -> RegionModel | None:
        weights = read_region_weights(self._path)
        if weights is None:
            return None
        model = RegionModel(self._encoder, size=weights.size)
        weights.load_into(model)
        return model.eval()

    def encoder(self) -> TextEncoder:
        """Returns the text encoder."""
        return self._encoder

    def prompts(self) -> PromptProjection | None:
        """Returns text projection and modality embedding; None after `train text`."""
        model = self._model
        return None if model is None else model.aligner.prompt_projection

    def model(self) -> RegionModel | None:
        """Returns the whole model; None after `train text`."""
        return self._model

    def published(self) -> dict[str, Tensor]:
        """Returns all weights under the published names."""
        return published_tensors(self._encoder, self._model)


Source = FileSource | FolderSource | RunSource
"""Something to convert; all have the same properties and methods. Weights are loaded when they are asked for."""


def open_source(path: Path, *, base: str | None) -> Source:
    """Returns what lies at `path`, looked through but not loaded.

    Args:
        path: a run folder, a sentence-transformers folder, or a ``.pth`` or ``.safetensors`` in the published layout.
        base: for a file: the model its text tower was trained from, a folder or ``hub:OWNER/NAME``.

    Raises:
        InputError: it is none of these, or damaged.
        FolderError: a run that is not finished.
        SettingError: `base` was given for a folder, which has its own vocabulary.
    """
    if path.is_file():
        file = read_sat_file(path)
        check_sat_file(file)
        return FileSource(file=file, base=base)
    if not path.is_dir():
        raise InputError(
            "no such file or folder",
            where=path,
            remedy="give a run, a sentence-transformers folder or a published .pth",
        )
    if base is not None:
        raise SettingError(
            "--base has no effect on a folder, which holds its own vocabulary", where=path, remedy="leave it out"
        )
    return FolderSource(path) if (path / "modules.json").is_file() else RunSource(path)
