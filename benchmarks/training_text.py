"""Text steps: ours, the published padded form, and sentence-transformers' trainer, on the same 128 pairs of UBERON.

The pairs are drawn from the built-in source as a mixture draws them: rows of definitions and exact synonyms against names, each
equally likely. No side uses dropout; the last three layers and the logit scale are trained by AdamW; features are the
mean over tokens; a step tokenises, encodes, takes the loss, goes back and updates.

The published form (SAT-Pretrain, ANCHORS §1 and §4) is written here from its description: both texts of every pair go through the
network in one batch padded to its longest text. Its loss is ours written without care for memory, so that the two can be
compared; what the loss costs is less than a thousandth of the step. The outcome is the loss of the first batch
and its gradients, all parameters as one vector.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Semaphore, Thread
from typing import Any, Literal

import torch
import torch.nn.functional as F
from cases import Case, Context, Goal, Side, Work, flops_share, memory_share, speed_up
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import AutoConfig, AutoModel, TrainerCallback

from vesalius.corpus.batch import TextBatch, text_batch
from vesalius.corpus.mixture import MixturePart, MixtureSampler
from vesalius.corpus.pair_table import GraphPairs
from vesalius.folder import write_text
from vesalius.knowledge.build import build_graph
from vesalius.knowledge.split import split_concepts
from vesalius.model.aligner import INITIAL_LOGIT_SCALE, LogitScale
from vesalius.model.text_encoder import TextEncoder, bundled_minilm
from vesalius.predict.embed import encode_group
from vesalius.train.processes import Processes
from vesalius.train.text import text_loss, text_share

Size = Literal["minilm", "bert-base", "mpnet-base"]

NUM_PAIRS, NUM_BATCHES, MAX_LENGTH, OPEN_LAYERS = 128, 4, 256, 3
QUICK_PAIRS = 16


# ---- what is worked on


def draw_batches(folder: Path, *, num_pairs: int, kinds: Sequence[str]) -> None:
    """Writes batches of UBERON's pairs as JSON into `folder`; run in a process of its own."""
    graph = build_graph(["uberon"])
    table = GraphPairs(graph, split_concepts(graph))
    parts = [MixturePart(sources=("uberon",), kinds=tuple(kinds))]
    sampler = MixtureSampler(table, parts=parts, batch_size=num_pairs, seed=0)
    batches = []
    for _ in range(NUM_BATCHES):
        batch = text_batch(sampler.draw(), ancestors=table.ancestors)
        batches.append({
            "left": batch.left, "right": batch.right,
            "positives": batch.positives.nonzero().tolist(), "ignored": batch.ignored.nonzero().tolist(),
            "concept_ids": batch.concept_ids,
        })  # fmt: skip
    write_text(folder / batches_name(num_pairs, kinds), json.dumps(batches))


def batches_name(num_pairs: int, kinds: Sequence[str]) -> str:
    """Returns the name of the file of such batches."""
    return f"pairs-{num_pairs}-{'-'.join(kinds)}.json"


def load_batches(
    context: Context, *, num_pairs: int, kinds: Sequence[str] = ("definition", "synonym")
) -> list[TextBatch]:
    """Returns batches of pairs; the graph they are drawn from lives in another process, so that its memory is not counted."""
    path = context.cache / batches_name(num_pairs, kinds)
    if not path.is_file():
        call = f"import training_text as t; t.draw_batches(t.Path({str(context.cache)!r}), num_pairs={num_pairs}, kinds={list(kinds)})"
        subprocess.run([sys.executable, "-c", call], check=True, cwd=Path(__file__).parent)  # noqa: S603

    def matrix(places: Sequence[Sequence[int]]) -> Tensor:
        found = torch.zeros(num_pairs, num_pairs, dtype=torch.bool)
        if places:
            found[tuple(torch.tensor(places).T)] = True
        return found

    return [
        TextBatch(
            left=held["left"], right=held["right"], concept_ids=held["concept_ids"],
            positives=matrix(held["positives"]), ignored=matrix(held["ignored"]),
        )
        for held in json.loads(path.read_text(encoding="utf-8"))
    ]  # fmt: skip


def sentence_model(size: Size, *, quick: bool) -> SentenceTransformer:
    """Returns MiniLM with its weights, or a network of BERT-base or MPNet-base size with random ones, behind MiniLM's tokeniser.

    Random weights are drawn twice as wide as usual: at the usual width all texts have nearly one feature, and what two sides differ
    in would be rounding alone.
    """
    if size == "minilm":
        return SentenceTransformer(str(bundled_minilm()), device="cpu", local_files_only=True)
    torch.manual_seed(0)
    layers = {"num_hidden_layers": 4} if quick else {}
    config = AutoConfig.for_model(size.removesuffix("-base"), initializer_range=0.04, **layers)
    with tempfile.TemporaryDirectory() as name:
        AutoModel.from_config(config).save_pretrained(name)
        tokenizer = SentenceTransformer(str(bundled_minilm()), device="cpu", local_files_only=True)[0].tokenizer
        tokenizer.save_pretrained(name)
        transformer = Transformer(name, max_seq_length=MAX_LENGTH)
    pooling = Pooling(config.hidden_size, pooling_mode="mean")
    return SentenceTransformer(modules=[transformer, pooling], device="cpu")


def texts_of(batch: TextBatch) -> list[str]:
    """Returns all left texts, then all right ones."""
    return [*batch.left, *batch.right]


# ---- the sides


@dataclass(kw_only=True)
class Trained:
    """A network in training.

    Attributes:
        encoder: ours, also where another side uses only its network.
        logit_scale: the multiplier.
        optimiser: over the open layers and the logit scale.
        batches: what is stepped through, over and over.
        processes: who trains.
        num_steps: done.
    """

    encoder: TextEncoder
    logit_scale: LogitScale
    optimiser: torch.optim.Optimizer
    batches: list[TextBatch]
    processes: Processes
    num_steps: int = 0

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those that are trained."""
        return [parameter for group in self.optimiser.param_groups for parameter in group["params"]]

    def update(self, loss_of: Callable[[TextBatch], Tensor]) -> None:
        """Does one step on the next batch."""
        loss = loss_of(self.batches[self.num_steps % len(self.batches)])
        loss.backward()
        self.processes.sum_gradients(self.parameters)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.num_steps += 1

    def outcome(
        self, loss_of: Callable[[TextBatch], Tensor], *, name: str, with_logit_scale: bool
    ) -> dict[str, Tensor]:
        """Returns the loss of the first batch, and all its gradients as one vector."""
        loss = loss_of(self.batches[0])
        loss.backward()
        self.processes.sum_gradients(self.parameters)
        gradients = [p.grad.flatten() for p in self.encoder.parameters() if p.grad is not None]
        scale = self.logit_scale.log_logit_scale.grad
        gradients += [scale.flatten()] if scale is not None and with_logit_scale else []
        found = {f"{name} loss": self.processes.sum(loss), f"{name} gradient": torch.cat(gradients)}
        self.optimiser.zero_grad(set_to_none=True)
        return found


def trained(model: SentenceTransformer, context: Context, batches: list[TextBatch], *, open_layers: int) -> Trained:
    """Returns `model` with its last layers open."""
    encoder = TextEncoder(model).to(context.device)
    encoder.open_layers(num_layers=open_layers, embeddings=False)
    scale = LogitScale().to(context.device)
    parameters = [p for p in (*encoder.parameters(), *scale.parameters()) if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=0.0)
    return Trained(encoder=encoder, logit_scale=scale, optimiser=optimiser, batches=batches,
                   processes=Processes(rank=context.rank, num=context.num_processes))  # fmt: skip


def own_pairs(batch: TextBatch) -> TextBatch:
    """Returns the same texts where only a text's own partner is a positive and nothing is ignored."""
    eye = torch.eye(len(batch.left), dtype=torch.bool)
    return replace(batch, positives=eye, ignored=torch.zeros_like(eye))


def with_both_losses(made: Trained, loss_of: Callable[[TextBatch], Tensor]) -> dict[str, Tensor]:
    """Returns the outcome with the pairs as they are, and with own pairs alone, as sentence-transformers has them."""
    return {
        **made.outcome(loss_of, name="concepts", with_logit_scale=True),
        **made.outcome(lambda batch: loss_of(own_pairs(batch)), name="own pairs", with_logit_scale=False),
    }


def padded(size: Size, *, amp: bool = False) -> Callable[[Context], Work]:
    """Returns the published form: one batch, padded to its longest text."""

    def prepare(context: Context) -> Work:
        num = QUICK_PAIRS if context.quick else NUM_PAIRS
        made = trained(sentence_model(size, quick=context.quick), context, load_batches(context, num_pairs=num),
                       open_layers=OPEN_LAYERS)  # fmt: skip
        network = made.encoder.network

        def loss_of(batch: TextBatch) -> Tensor:
            token_ids = made.encoder.tokenise(texts_of(batch), max_length=MAX_LENGTH)
            longest = max(map(len, token_ids))
            pad = made.encoder.pad_id
            input_ids = torch.tensor([ids + [pad] * (longest - len(ids)) for ids in token_ids], device=context.device)
            mask = (torch.arange(longest)[None] < torch.tensor([len(ids) for ids in token_ids])[:, None]).long()
            mask = mask.to(context.device)
            with torch.autocast(context.device.type, torch.bfloat16, enabled=amp):
                hidden = network(input_ids=input_ids, attention_mask=mask).last_hidden_state
                features = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            left, right = F.normalize(features.float(), dim=-1).chunk(2)
            logits = made.logit_scale() * left @ right.T
            logits = logits.masked_fill(batch.ignored.to(context.device), -torch.inf)
            positives = batch.positives.to(context.device)
            rows = -(logits.log_softmax(1).exp() * positives).sum(1).log().mean()
            columns = -(logits.log_softmax(0).exp() * positives).sum(0).log().mean()
            return (rows + columns) / 2

        return Work(
            step=lambda: made.update(loss_of), units=num, outcome=lambda: with_both_losses(made, loss_of),
            numbers=lambda: {"token slots": _mean(padded_slots(made.encoder, batch) for batch in made.batches)},
        )  # fmt: skip

    return prepare


def ours(
    size: Size,
    *,
    num_pairs: int = NUM_PAIRS,
    kinds: Sequence[str] = ("definition", "synonym"),
    open_layers: int = OPEN_LAYERS,
    amp: bool = False,
) -> Callable[[Context], Work]:
    """Returns our form, by the code that trains: each text once, no padding, dealt out to the processes."""

    def prepare(context: Context) -> Work:
        num = min(num_pairs, QUICK_PAIRS) if context.quick else num_pairs
        batches = load_batches(context, num_pairs=num, kinds=kinds)
        made = trained(sentence_model(size, quick=context.quick), context, batches, open_layers=open_layers)

        def loss_of(batch: TextBatch) -> Tensor:
            share = text_share(batch, encoder=made.encoder, max_length=MAX_LENGTH, processes=made.processes)
            with torch.autocast(context.device.type, torch.bfloat16, enabled=amp):
                features = [encode_group(made.encoder, group) for group in share.groups]
            own, _ = share.in_order(features, encoder=made.encoder)
            return text_loss(own, share, logit_scale=made.logit_scale(), processes=made.processes)

        counts = [count_flops(made.encoder, batch, open_layers=open_layers) for batch in batches]
        return Work(
            step=lambda: made.update(loss_of), units=num, outcome=lambda: with_both_losses(made, loss_of),
            flops=_mean(flops for flops, _ in counts), numbers=lambda: {"tokens": _mean(tokens for _, tokens in counts)},
        )  # fmt: skip

    return prepare


def without_outcome(prepare: Callable[[Context], Work]) -> Callable[[Context], Work]:
    """Returns the same work, compared with nothing."""
    return lambda context: replace(prepare(context), outcome=None)


class HeldBack(TrainerCallback):
    """Holds a trainer behind each of its steps until the next one is asked for, so that steps can be timed one by one."""

    def __init__(self) -> None:
        self.asked, self.done = Semaphore(0), Semaphore(0)

    def on_step_end(self, *_: object, **__: object) -> None:
        """Tells that a step is done and waits."""
        self.done.release()
        self.asked.acquire()


def sentence_transformers(size: Size) -> Callable[[Context], Work]:
    """Returns the step of sentence-transformers' trainer with its loss in both directions; own pairs are the only positives.

    What its loop does from the end of one step to the end of the next: collate, forward, backward, update. Neither gradients are
    clipped nor anything logged or saved.
    """

    def prepare(context: Context) -> Work:
        num = QUICK_PAIRS if context.quick else NUM_PAIRS
        model = sentence_model(size, quick=context.quick).to(context.device)
        made = trained(model, context, load_batches(context, num_pairs=num), open_layers=OPEN_LAYERS)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # the trainer turns training mode on
        pairs = {"anchor": [text for batch in made.batches for text in batch.left],
                 "positive": [text for batch in made.batches for text in batch.right]}  # fmt: skip
        arguments = SentenceTransformerTrainingArguments(
            output_dir=str(context.cache / "sentence-transformers"), per_device_train_batch_size=num, max_steps=10**6,
            learning_rate=1e-5, weight_decay=0.0, lr_scheduler_type="constant", max_grad_norm=0.0, optim="adamw_torch",
            use_cpu=context.device.type == "cpu", logging_strategy="no", save_strategy="no", report_to=[],
            disable_tqdm=True, batch_sampler=lambda dataset, **how: DefaultBatchSampler(
                SequentialSampler(dataset), batch_size=how["batch_size"], drop_last=how["drop_last"]
            ),
        )  # fmt: skip
        loss = MultipleNegativesRankingLoss(
            model, scale=INITIAL_LOGIT_SCALE,
            directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction",
        )  # fmt: skip
        held = HeldBack()
        trainer = SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=Dataset.from_dict(pairs), loss=loss, callbacks=[held]
        )

        def loss_of(batch: TextBatch) -> Tensor:
            rows = [{"anchor": a, "positive": b} for a, b in zip(batch.left, batch.right, strict=True)]
            inputs = trainer.data_collator(rows)
            return trainer.compute_loss(
                model, {k: v.to(context.device) if isinstance(v, Tensor) else v for k, v in inputs.items()}
            )

        def outcome() -> Mapping[str, Tensor]:
            return made.outcome(loss_of, name="own pairs", with_logit_scale=False)

        stopped: list[BaseException] = []

        def run() -> None:
            try:
                trainer.train()
            except BaseException as error:  # noqa: BLE001
                stopped.append(error)
                held.done.release()

        loop = Thread(target=run, daemon=True)

        def step() -> None:
            held.asked.release() if loop.ident else loop.start()
            held.done.acquire()
            if stopped:
                raise stopped[0]

        return Work(step=step, units=num, outcome=outcome)

    return prepare


def _mean(values: Any) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


# ---- floating-point operations


def padded_slots(encoder: TextEncoder, batch: TextBatch) -> int:
    """Returns how many token slots the padded batch has."""
    lengths = [len(ids) for ids in encoder.tokenise(texts_of(batch), max_length=MAX_LENGTH)]
    return len(lengths) * max(lengths)


def count_flops(encoder: TextEncoder, batch: TextBatch, *, open_layers: int) -> tuple[float, int]:
    """Returns the operations that a step on a batch needs, and the number of its tokens; equal texts count once.

    Counted are matrix products alone: all layers forward; for open layers the gradients of weights and of inputs, but not of the
    inputs of the lowest open layer's projections and of its own residual stream, which nobody asks for.
    """
    config: Any = encoder.network.config
    width, inner, num_layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    lengths = [len(ids) for ids in encoder.tokenise(list(dict.fromkeys(texts_of(batch))), max_length=MAX_LENGTH)]
    tokens, squares = sum(lengths), sum(length**2 for length in lengths)
    projections, rest = 2 * tokens * 3 * width**2, 2 * tokens * (width**2 + 2 * width * inner)
    attention = 2 * 2 * squares * width
    forward = num_layers * (projections + rest + attention)
    backward = open_layers * 2 * (projections + rest + attention) - (projections if open_layers else 0)
    return float(forward + backward), tokens


def matmul_peak(context: Context) -> Work:
    """Returns the fastest matrix product of fp32 this machine was found to do, among products of the sizes that transformers have."""
    shapes = [(4096, 768, 3072), (4096, 3072, 768), (2048, 2048, 2048), (4096, 4096, 4096), (4096, 768, 768)]
    if context.quick:
        shapes = shapes[:2]
    if context.device.type == "cuda":
        shapes.append((8192, 8192, 8192))

    def product(shape: tuple[int, int, int]) -> Callable[[], float]:
        n, k, m = shape
        left, right = torch.randn(n, k, device=context.device), torch.randn(k, m, device=context.device)
        out = torch.empty(n, m, device=context.device)
        count = max(1, round((2e10 if context.device.type == "cpu" else 2e13) / (2 * n * k * m)))

        def run() -> float:
            for _ in range(count):
                torch.mm(left, right, out=out)
            return 2.0 * n * k * m * count

        return run

    def rate(run: Callable[[], float]) -> float:
        run()
        began = time.perf_counter()
        flops = run()
        if context.device.type == "cuda":
            torch.cuda.synchronize(context.device)
        return flops / (time.perf_counter() - began)

    best = max((product(shape) for shape in shapes), key=rate)
    times = 2 if context.quick else 10
    return Work(step=lambda: [best() for _ in range(times)], flops=times * best())


def step_case(size: Size, title: str) -> Case:
    """Returns the case of one encoder."""
    return Case(
        name=f"text-{size}",
        title=f"Text step, {title}",
        unit="pairs",
        sides={
            "as published, padded": Side(prepare=padded(size)),
            "sentence-transformers trainer": Side(prepare=sentence_transformers(size)),
            "vesalius": Side(prepare=ours(size)),
            "matrix products alone": Side(prepare=matmul_peak),
        },
        goals=(
            Goal(
                work=f"text step, {NUM_PAIRS} pairs, {title}", says="≥ 4× the pairs/s of the padded form", at_least=4.0,
                value=speed_up("vesalius", "as published, padded"),
            ),
            Goal(
                work=f"text step, {NUM_PAIRS} pairs, {title}", says="≤ 1/2 of its peak memory", at_most=0.5,
                value=memory_share("vesalius", "as published, padded"),
            ),
            Goal(
                work=f"text step, {NUM_PAIRS} pairs, {title}", says="≥ 2× the pairs/s of sentence-transformers' trainer",
                at_least=2.0, value=speed_up("vesalius", "sentence-transformers trainer"),
            ),
            Goal(
                work=f"floor: {title} on real tokens", shows="{:.0%}",
                says="≥ 60 % of the machine's matrix products" if size == "bert-base" else "reported",
                at_least=0.6 if size == "bert-base" else None, value=flops_share("vesalius", "matrix products alone"),
            ),
        ),
        note="Differences are of loss and gradients; sentence-transformers is compared with own pairs alone.",
    )  # fmt: skip


COST = {
    **{f"{num} pairs": ours("minilm", num_pairs=num) for num in (32, 128, 512)},
    "128 pairs, all synonyms": ours("minilm", kinds=("synonym",)),
    "128 pairs, all definitions": ours("minilm", kinds=("definition",)),
    "128 pairs, no layer open but the last": ours("minilm", open_layers=1),
    "128 pairs, all 6 layers open": ours("minilm", open_layers=6),
}

CASES = (
    step_case("minilm", "MiniLM"),
    step_case("bert-base", "BERT-base size"),
    Case(
        name="text-mpnet",
        title="Text step, MPNet-base size",
        unit="pairs",
        sides={
            "as published, padded": Side(prepare=padded("mpnet-base")),
            "vesalius": Side(prepare=ours("mpnet-base")),
            "vesalius, bf16": Side(prepare=without_outcome(ours("mpnet-base", amp=True)), devices=("cuda",)),
        },
        repeats=1,
        quick=False,
    ),
    Case(
        name="text-cost",
        title="Text step, cost against work (MiniLM)",
        unit="pairs",
        sides={name: Side(prepare=without_outcome(prepare)) for name, prepare in COST.items()},
        repeats=1,
        steps=2,
        quick=False,
    ),
    Case(
        name="text-processes",
        title="Text step, one batch by several processes (MiniLM)",
        unit="pairs",
        sides={
            "1 process": Side(prepare=ours("minilm")),
            "2 processes": Side(prepare=ours("minilm"), processes=2),
        },
        note="The same batch, dealt out; threads are divided, so on one machine of few cores nothing is gained.",
        quick=False,
    ),
)
