"""Training on transformers' `Trainer`: its only importer, and nothing of unlearning is decided here.

The Trainer brings accumulation, mixed precision, checkpointing, schedules, seeds and resumption. This module gives it a
loss (`Objective.loss`) and a callback that measures, stops, and keeps a state to go on from. `take_steps` is the same
without all of that: a few steps down some loss, for whoever looks at the model after each.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint, set_seed
from transformers.utils import logging

from ckdiff.errors import CkdiffError, ExitStatus
from ckdiff.files import scratch
from ckdiff.progress import nothing_to_resume
from ckdiff.unlearn.measuring import as_saved, coarse, plain_forward, start
from ckdiff.unlearn.recipe import OPTIMIZERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from ckdiff.progress import Listener
    from ckdiff.unlearn.measuring import Gauge
    from ckdiff.unlearn.objective import Objective
    from ckdiff.unlearn.recipe import Recipe

POINT, SUMS = "ckdiff_point", "ckdiff_sums"
"""Keys of what is kept in the Trainer's own log, which it stores and restores."""
WEIGHTS = "parameters.safetensors"
"""Where a training that can be gone on with keeps its parameters."""
CLIP = 1.0
"""The greatest norm of a gradient; longer ones are shortened to it."""


class DivergedError(CkdiffError):
    """The loss, or a weight, is no longer finite."""

    exit_status = ExitStatus.INCONCLUSIVE

    def __init__(self, step: int) -> None:
        super().__init__(
            f"diverged at step {step}: loss or weights are no longer finite; lower --lr, or measure more often"
        )
        self.step = step


class Unlearner(Trainer):
    """A Trainer whose loss is a objective's."""

    def __init__(self, objective: Objective, recipe: Recipe, arguments: TrainingArguments, callback: Watch) -> None:
        super().__init__(
            model=objective.live.model,
            args=arguments,
            train_dataset=objective.items(),
            data_collator=lambda items: {"items": torch.tensor(items)},
            callbacks=[callback],
        )
        self.unlearning, self.recipe, self.watch = objective, recipe, callback
        # Our losses are means already: the Trainer divides them by the number of accumulated batches.
        self.model_accepts_loss_kwargs = False
        self.remove_callback(PrinterCallback)
        self.micro = (-1, 0)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: the inputs are numbers of texts."""
        return 0

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The objective's loss on some forget texts, by number."""
        step = self.state.global_step
        self.micro = (step, self.micro[1] + 1 if self.micro[0] == step else 0)
        place = step * self.args.gradient_accumulation_steps + self.micro[1]
        steady(self.unlearning.live.model)
        with precision(self.recipe, self.args.device):
            loss = self.unlearning.loss(model, inputs["items"].tolist(), place)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DivergedError(step + 1)
        self.watch.add(value)
        return loss

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Parameters under their names in memory: transformers would write experts under those of the files."""
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        values = {name: value.detach().contiguous() for name, value in self.unlearning.live.model.named_parameters()}
        save_file(values, folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Every parameter as it was kept."""
        kept = load_file(Path(resume_from_checkpoint) / WEIGHTS)
        with torch.no_grad():
            for name, value in self.unlearning.live.model.named_parameters():
                value.copy_(kept[name])


@contextlib.contextmanager
def precision(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """The arithmetic of a recipe, for the model in training and for the base alike."""
    if recipe.precision == "float32":
        yield
        return
    with torch.autocast(device.type, getattr(torch, recipe.precision)):
        yield


class Watch(TrainerCallback):
    """Measures while training, stops it where the recipe says so, and tells the listener."""

    def __init__(self, objective: Objective, recipe: Recipe, gauge: Gauge, listener: Listener) -> None:
        self.objective, self.recipe, self.gauge, self.listener = objective, recipe, gauge, listener
        self.sums = [0.0, 0]
        self.interrupted = False
        self.reason = ""
        self.points: list[dict[str, Any]] = []

    def add(self, loss: float) -> None:
        """Count one batch's loss."""
        self.sums = [self.sums[0] + loss, self.sums[1] + 1]

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Take over what a resumed training has measured so far."""
        # The state file has sorted the keys; the record of a resumed training is that of an uninterrupted one.
        names = tuple(start(self.gauge))
        self.points = [{name: entry[POINT][name] for name in names} for entry in state.log_history if POINT in entry]
        sums = [entry[SUMS] for entry in state.log_history if SUMS in entry]
        self.sums = sums[-1] if sums else [0.0, 0]
        if not self.points:
            self._keep(state, start(self.gauge))
        self._tell(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Measure every so many steps; stop when the user asks."""
        self._tell(state)
        every = self.recipe.evaluate_every
        due = state.global_step % every == 0 if every else float(state.epoch).is_integer()
        if due or state.global_step == state.max_steps:
            self._measure(state, control)
        if self.listener.stop() and not control.should_training_stop:
            self.interrupted = control.should_training_stop = control.should_save = True
        if control.should_save:
            state.log_history.append({SUMS: list(self.sums)})

    def _measure(self, state: Any, control: Any) -> None:
        # The loss was finite before the step that it led to: what is measured and kept is what comes after.
        if not self._alive():
            raise DivergedError(state.global_step)
        loss = self.sums[0] / self.sums[1] if self.sums[1] else math.nan
        self.sums = [0.0, 0]
        point = {"step": state.global_step, "epoch": round(float(state.epoch), 6), "loss": loss}
        measured = self.gauge(self.objective.live)
        self._keep(state, point | measured | {"state": "memory"})
        if coarse(self.objective.live):
            with as_saved(self.objective.live):
                measured = self.gauge(self.objective.live)
            self._keep(state, point | measured | {"state": "saved"})
        self.listener.remark(_words(point, measured))
        control.should_save = True
        for condition in self.recipe.stop_when:
            if condition.holds(measured | {"loss": loss}):
                self.reason = str(condition)
                control.should_training_stop = True

    def _alive(self) -> bool:
        """Whether weights and loss are finite."""
        model = self.objective.live.model
        if not all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters()):
            return False
        items = self.objective.items()[: self.recipe.batch_size]
        steady(model)
        with torch.no_grad(), plain_forward(model), precision(self.recipe, self.objective.live.device):
            return math.isfinite(float(self.objective.loss(model, items, 0)))

    def _keep(self, state: Any, point: dict[str, Any]) -> None:
        self.points.append(point)
        state.log_history.append({POINT: point})

    def _tell(self, state: Any) -> None:
        self.listener.progress("training", state.global_step, state.max_steps, self._last())

    def _last(self) -> str:
        bleu = self.points[-1]["target_bleu"] if self.points else math.nan
        return "steps" if math.isnan(bleu) else f"steps, target BLEU {bleu:.2f}"


def _words(point: dict[str, Any], measured: dict[str, float]) -> str:
    known = {name.removesuffix("_bleu"): value for name, value in measured.items() if not math.isnan(value)}
    shown = "".join(f", {name} BLEU {value:.3f}" for name, value in known.items())
    return f"step {point['step']} (epoch {point['epoch']:.2f}): loss {point['loss']:.4f}{shown}"


def arguments(recipe: Recipe, lr: float, work: Path, items: int) -> TrainingArguments:
    """A recipe as the Trainer wants it."""
    a_step = recipe.batch_size * recipe.accumulation
    warmup = max(1, math.ceil(items / a_step)) if recipe.warmup is None else recipe.warmup
    cpu = recipe.device == "cpu" or not torch.cuda.is_available()
    made = TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        num_train_epochs=recipe.epochs,
        max_steps=recipe.steps or -1,
        learning_rate=lr,
        weight_decay=recipe.weight_decay,
        warmup_steps=warmup,
        optim=OPTIMIZERS[recipe.optimizer],
        max_grad_norm=CLIP,
        bf16=recipe.precision == "bfloat16",
        fp16=recipe.precision == "float16",
        seed=recipe.seed,
        data_seed=recipe.seed,
        use_cpu=cpu,
        save_strategy="no",
        save_total_limit=1,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    # Several GPUs would split each batch among copies of the model; one is used.
    made._n_gpu = min(1, made.n_gpu)
    return made


def is_emulated(precision: str, device: torch.device) -> bool:
    """Whether products of this precision are made number by number, up to sixty times as slowly as in float32."""
    known = {"bfloat16": "_is_mkldnn_bf16_supported", "float16": "_is_mkldnn_fp16_supported"}
    return device.type == "cpu" and precision in known and not getattr(torch.ops.mkldnn, known[precision])()


def train(
    objective: Objective, recipe: Recipe, lr: float, gauge: Gauge, work: Path, listener: Listener, resume: bool
) -> tuple[Watch, DivergedError | None]:
    """Train; gives what was watched, and where it diverged if it did (the weights are then the last good ones).

    Raises:
        DivergedError: before anything had been kept.
    """
    set_seed(recipe.seed)
    logging.disable_progress_bar()
    without_dropout(objective.live.model)
    if is_emulated(recipe.precision, objective.live.device):
        listener.remark(
            f"this processor has no instructions for {recipe.precision}: training in it takes many times as long;"
            " use --precision float32"
        )
    if recipe.checkpointing:
        # Not by the Trainer's argument, whose name changes with its releases.
        model = objective.live.model
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    watch = Watch(objective, recipe, gauge, listener)
    unlearner = Unlearner(objective, recipe, arguments(recipe, lr, work, len(objective.items())), watch)
    last = get_last_checkpoint(str(work)) if resume else None
    if resume and last is None:
        listener.remark(nothing_to_resume(work))
    try:
        unlearner.train(resume_from_checkpoint=last)
    except DivergedError as error:
        good = get_last_checkpoint(str(work))
        if good is None:
            raise
        unlearner._load_from_checkpoint(good)
        return watch, error
    return watch, None


class Stepper(Trainer):
    """A Trainer that goes down a loss which knows its own batches."""

    def __init__(self, model: Any, loss: Callable[[int], Tensor], made: TrainingArguments, ender: Ender) -> None:
        numbers = list(range(made.max_steps))
        super().__init__(model=model, args=made, train_dataset=numbers, data_collator=_collate, callbacks=[ender])
        self.model_accepts_loss_kwargs = False
        self.remove_callback(PrinterCallback)
        self.given = loss

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        return 0

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of the step that comes next."""
        steady(self.model)
        loss = self.given(self.state.global_step)
        if not math.isfinite(float(loss.detach())):
            raise DivergedError(self.state.global_step + 1)
        return loss


class Ender(TrainerCallback):
    """Asks after each step whether it was the last one."""

    def __init__(self, after: Callable[[int], bool]) -> None:
        self.after = after

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Ask."""
        if self.after(state.global_step):
            control.should_training_stop = True


def take_steps(
    model: Any, loss: Callable[[int], Tensor], steps: int, lr: float, device: torch.device, after: Callable[[int], bool]
) -> None:
    """Take AdamW's steps at a constant rate, without decay, gradients no longer than `CLIP`; nothing is written.

    Args:
        model: whose parameters that want a gradient are trained, in place.
        loss: by number of the step, from 0 on.
        steps: at most so many.
        lr: the rate.
        device: where the model is.
        after: called with the number of steps taken, after each; True ends it.

    Raises:
        DivergedError: a loss is no longer finite.
    """
    logging.disable_progress_bar()
    with scratch() as work:
        made = TrainingArguments(
            output_dir=str(work),
            per_device_train_batch_size=1,
            max_steps=steps,
            learning_rate=lr,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            optim=OPTIMIZERS["adamw"],
            max_grad_norm=CLIP,
            use_cpu=device.type == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        )
        made._n_gpu = min(1, made.n_gpu)
        Stepper(model, loss, made, Ender(after)).train()


def _collate(items: list[int]) -> dict[str, Tensor]:
    return {"items": torch.tensor(items)}


def steady(model: Any) -> None:
    """No chance in the forward: a log-ratio against the base must be 0 where the weights are equal.

    Checkpointed layers look for themselves whether they train; everything else is as in evaluation.
    """
    model.eval()
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False) is True:
            module.training = True


def without_dropout(model: Any) -> None:
    """No dropout, in configs and in modules: checkpointed layers count as training.

    Jitter is left alone: to some routers it is a threshold in evaluation too.
    """
    for owner in (model.config, *model.modules()):
        for name, value in list(vars(owner).items()):
            is_rate = "drop" in name or (name == "p" and isinstance(owner, torch.nn.Dropout))
            if is_rate and isinstance(value, float):
                setattr(owner, name, 0.0)
