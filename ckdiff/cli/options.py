"""Options and groups that only the door knows: where results go, what is shown, how a command runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ckdiff.errors import CkdiffError
from ckdiff.options import ASKED, OUTPUT, POLICIES, RUNS, USUAL_REPORT, Argument, Option
from ckdiff.report.formats import FORMATS

TABLE = next(iter(FORMATS))
"""The format that people get unasked."""


FORMAT = Option("--format -f", f"What to print on stdout: {', '.join(FORMATS)}.", known=FORMATS)
TABLE_OR_JSON = FORMAT.but("What to print on stdout: table or json.", known=("table", "json"))
TOP = Option("--top", "How many tensors and neurons the table lists.", least=0)
SHOW_QUESTIONS = Option("--show-questions", "How many questions and answers the table lists.", least=0)
OVERWRITE = Option("--overwrite", "Replace whatever is at --output, another pair's report too.")
QUIET = Option("--quiet -q", "No progress and no remarks on stderr.")
THREADS = Option("--threads", "CPU threads; 0: all that are there.", RUNS, least=0, most=1024)
PLAN = Option("--plan", "Say what would run, how large and how long, and stop.", RUNS)
RESUME = Option("--resume", "Go on with what was interrupted.", RUNS)
POLICY = Option("--policy -p", "A TOML file, or not-recovered; without it ckdiff's own policy.", POLICIES)
DETAILS = Option("--details", "Print every check and figure, not one screen.")
NO_ANSWERS = Option("--no-answers", "Leave out the texts of questions and answers; numbers stay.")
KEY = Option("--key -k")
BASE = Option("--base", "The model before: are its files those of the report?")
UNLEARNED = Option("--unlearned", "The model after: are its files those of the report?")
BASE_KEY = Option("--base-key", "The public key in PEM of whoever must have signed the base (model.sig).")
UNLEARNED_KEY = Option("--unlearned-key", "The same of the unlearned model.")


REPORT = Argument("A report that ckdiff has written.")


@dataclass(frozen=True)
class Output:
    """Where a report is written, and how much is said meanwhile."""

    output: Annotated[Path, OUTPUT] = Path(USUAL_REPORT)
    overwrite: Annotated[bool, OVERWRITE] = False
    quiet: Annotated[bool, QUIET] = False


@dataclass(frozen=True)
class Texts:
    """Neutral texts: a file of them, ckdiff's own, or none."""

    neutral: Annotated[
        Path | None, Option("--neutral", "A file of neutral texts; else ckdiff's own.", ASKED, rare=True)
    ] = None
    no_neutral: Annotated[bool, Option("--no-neutral", "Leave neutral texts out.", ASKED, rare=True)] = False

    def choose(self) -> Path | bool | None:
        """The file, False for none, or None where nobody chose.

        Raises:
            CkdiffError: both options were given.
        """
        if self.neutral is not None and self.no_neutral:
            raise CkdiffError("--neutral and --no-neutral: give one of them")
        return False if self.no_neutral else self.neutral
