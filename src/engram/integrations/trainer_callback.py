"""Watch memorisation in a Hugging Face `Trainer`, or in TRL's `SFTTrainer`: one more callback.

    trainer.add_callback(MemorisationCallback(train_dataset, validation=eval_dataset, stop="ngram"))

It continues some of the training records after every epoch, writes what it sees, and may stop the
training and put the weights of the best epoch back. The training itself is as it would be without.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from engram.core import EngramError
from engram.families.causal_lm import LanguageModel
from engram.integrations.training_records import passages_of, rows_of, split_of
from engram.parts.memorisation_monitor import MemorisationMonitor
from engram.parts.observation_line import observation_line
from engram.parts.stopping import Stop
from engram.parts.watch import Watch
from engram.report import memorisation_page

TRACE, REFERENCE, BEST, PAGE = (
    "memorisation.jsonl",
    "reference.npy",
    "best.safetensors",
    "memorisation.html",
)
say = partial(print, file=sys.stderr, flush=True)


class MemorisationCallback(TrainerCallback):
    """Observes a training before its first step, after each epoch, and may stop it.

    What it wrote is in `folder`: `memorisation.jsonl`, one observation a line, and a page with
    the same as a figure. Rates that go into a report should be measured on other records than
    those that the training was stopped by.
    """

    def __init__(
        self,
        records: Any,
        tokenizer: Any = None,
        *,
        validation: Any = None,
        stop: Stop = "none",
        tau: float = 0.2,
        patience: int = 0,
        every: int = 0,
        prefix: int = 32,
        suffix: int = 24,
        sample: int = 256,
        canaries: int = 8,
        cost: float = 0.1,
        seed: int = 0,
        out: str | Path | None = None,
        tell: Callable[[str], None] = say,
    ) -> None:
        """Take note of what to look at.

        Args:
            records: What is trained on, before it is tokenised: texts, or mappings with `text`,
                `messages`, or `prompt` and `completion`; a `Split` or a `datasets.Dataset`. Columns
                `owner` and `canary` are used where there are any.
            tokenizer: Of the model; by default the trainer's `processing_class`.
            validation: Records that are not trained on; without them there is no AUC and no
                validation perplexity.
            stop: "none", "perplexity", "ngram" or "threshold"; see `engram.parts.stopping`.
            tau: The most that the n-gram score may rise over that of the untrained model.
            patience: Stop after so many observations without a better one; 0 trains to the end.
            every: Steps between two observations; 0: an epoch.
            prefix: Tokens of a text that are given before it is continued.
            suffix: The most tokens that are written and compared.
            sample: The most records of a side that are looked at.
            canaries: The most canaries that are looked at.
            cost: The largest share of the training's work that looking may take.
            seed: Of the choice of records.
            out: A folder; by default `memorisation` in the trainer's output folder.
            tell: Given a line an observation; by default it is printed on standard error.

        Raises:
            EngramError: A setting that cannot be, or no records.
        """
        self.watch = Watch(stop, tau, patience, prefix, suffix, sample, canaries, cost)
        if every < 0:
            raise EngramError(
                f"every is {every}, but must not be negative", hint="0 observes once an epoch"
            )
        self.rows = rows_of(records, "records")
        self.beside = [] if validation is None else rows_of(validation, "validation records")
        self.tokenizer, self.every, self.seed, self.tell = tokenizer, every, seed, tell
        self.folder = None if out is None else Path(out)
        self.trace: list[dict[str, float | int]] = []
        self._monitor: MemorisationMonitor | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Choose the records, ask the untrained model, and observe it."""
        self.folder = self.folder or Path(args.output_dir or ".") / "memorisation"
        lm = self._model(given)
        if state.is_world_process_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            monitor = self._made(lm, args, state)
            self._monitor = self._resumed(monitor, state)
        if not self.trace:
            self._observe(lm, state, control)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Observe where it is time to."""
        if self.every and state.global_step % self.every == 0:
            self._observe(self._model(given), state, control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Observe, unless steps are counted."""
        if not self.every:
            self._observe(self._model(given), state, control)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Put the chosen weights back into the model, and draw what was seen."""
        if self._monitor is not None and self.trace[-1]["step"] < state.global_step:
            self._look(self._model(given), state)
        self._share_best(given["model"])
        if self._monitor is not None and self.folder is not None:
            page = memorisation_page(self.trace, self._monitor.best(self.trace))
            (self.folder / PAGE).write_text(page, encoding="utf-8")

    def _model(self, given: Mapping[str, Any]) -> LanguageModel:
        tokenizer = self.tokenizer or given.get("processing_class")
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # of a processor
        if tokenizer is None:
            raise EngramError(
                "the trainer has no tokenizer",
                hint="MemorisationCallback(records, tokenizer), or Trainer(processing_class=...)",
            )
        return LanguageModel(given["model"], tokenizer)

    def _made(
        self, lm: LanguageModel, args: TrainingArguments, state: TrainerState
    ) -> MemorisationMonitor:
        if any(p.numel() == 0 for p in lm.model.parameters()):
            raise EngramError(
                "the model's weights are spread over several processes, so that no one of them "
                "can write with it",
                hint="train with plain data parallelism (DDP), or ZeRO up to stage 2",
            )
        split = split_of(self.rows, "records")
        members, beside = (
            passages_of(rows, lm.tokenizer, lm.context) if rows else None
            for rows in (self.rows, self.beside)
        )
        if members is None:
            raise EngramError("records are empty", hint="give at least one record")
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        every = self.every or -(-state.max_steps // max(state.num_train_epochs, 1))
        looks = 1 + -(-state.max_steps // max(every, 1))  # before the first step, too
        trained = int(state.max_steps * batch * members.lengths.mean() / looks)
        beside = members.take([]) if beside is None else beside
        return MemorisationMonitor.of(self.watch, lm, members, beside, split, self.seed, trained)

    def _resumed(self, monitor: MemorisationMonitor, state: TrainerState) -> MemorisationMonitor:
        """With the untrained model's losses and the observations of a training that goes on."""
        if self.folder is None:
            return monitor
        trace, reference = self.folder / TRACE, self.folder / REFERENCE
        self.trace = []
        if state.global_step and trace.is_file() and reference.is_file():
            known = np.load(reference, allow_pickle=False)
            seen = [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()]
            if known.shape == monitor.reference.shape:
                self.trace = [entry for entry in seen if entry["step"] <= state.global_step]
                return replace(monitor, reference=known)
        np.save(reference, monitor.reference, allow_pickle=False)
        return monitor

    def _observe(self, lm: LanguageModel, state: TrainerState, control: TrainerControl) -> None:
        """Look in the main process alone, and stop in all of them."""
        stop = False
        if self._monitor is not None and not (
            self.trace and self.trace[-1]["step"] >= state.global_step
        ):
            self._look(lm, state)
            stop = self._monitor.stop(self.trace)
        if agreed(stop, lm.device):
            control.should_training_stop = True

    def _look(self, lm: LanguageModel, state: TrainerState) -> None:
        if self._monitor is None or self.folder is None:
            return
        step, epoch = state.global_step, float(state.epoch or 0.0)
        entry = {"step": step, "epoch": epoch, **self._monitor.look(lm, step, epoch)}
        self.trace.append(entry)
        lines = [json.dumps(each, allow_nan=False) + "\n" for each in self.trace]
        part = self.folder / (TRACE + ".part")
        part.write_text("".join(lines), encoding="utf-8")
        part.replace(self.folder / TRACE)
        self.tell(observation_line(entry))
        if self._monitor.best(self.trace) == len(self.trace) - 1:
            save_file(learnt(lm.model), self.folder / BEST)

    def _share_best(self, model: Any) -> None:
        """Put the weights of the best observation back, in every process."""
        best = None if self._monitor is None else self._monitor.best(self.trace)
        restore = best is not None and best < len(self.trace) - 1
        device = next(model.parameters()).device
        if agreed(restore, device) and self.folder is not None:
            with safe_open(self.folder / BEST, "pt") as file, torch.no_grad():
                for name, tensor in learnt(model).items():
                    tensor.copy_(file.get_tensor(name))
        agreed(False, device)  # nobody is still reading
        if self._monitor is not None and self.folder is not None:
            (self.folder / BEST).unlink(missing_ok=True)


def learnt(model: Any) -> dict[str, torch.Tensor]:
    """What training changes: trained parameters once each, and buffers."""
    named = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    buffers = {name: b for name, b in model.named_buffers() if name in model.state_dict()}
    return {name: tensor.contiguous() for name, tensor in {**named, **buffers}.items()}


def agreed(decision: bool, device: torch.device) -> bool:
    """The main process's decision, in all of them."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return decision
    told = torch.tensor([int(decision)], device=device)
    torch.distributed.broadcast(told, src=0)
    return bool(told.item())
