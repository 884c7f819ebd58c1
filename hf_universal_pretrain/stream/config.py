"""The settings of the data (`SyntheticUPConfig`); those of the training are in `training/config.py`."""

import bisect
import dataclasses
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from hf_universal_pretrain.errors import first_line
from hf_universal_pretrain.hub import find_file
from hf_universal_pretrain.machines import Band
from hf_universal_pretrain.reading import load_json, load_yaml
from hf_universal_pretrain.stream import presets
from hf_universal_pretrain.stream.families import build_family, check_runs, family_texts, read_family_settings
from hf_universal_pretrain.stream.presets import PRESETS
from hf_universal_pretrain.stream.shares import parse_mixture, pool_of, rows_of_shares


DATA_CONFIG_NAME = "synthetic_up_config.json"


@dataclass(frozen=True)
class SyntheticUPConfig:
    """Everything that decides the synthetic data: machines, buffer and alphabet. Algorithm 1 of arXiv 2506.20057.

    The defaults are the ones that learned best in our measurements (see the README); `SyntheticUPConfig.paper` gives
    the published recipe. Fields cannot be assigned to; `dataclasses.replace` makes a changed copy.

    Raises:
        ValueError: if a setting is out of range or does not fit another; the message names the field and the mend.
    """

    machines: str = "context_tree=0.9,lstm=0.1"
    """Machine families and their shares of the generated rows, as in 'lstm' or 'lstm=0.7,markov=0.3'.
    'language@64=0.6,language=0.4' has a pool: 64 languages that stay for the whole run, the same in every process
    (those of language@16 are among them), and beside it new ones in each round. 'my_family.py:MyFamily=0.5' takes a
    family from a file of your own.
    Families: lstm, gru, rnn, reservoir, transformer, two_clocks, language, copies, rewrite, markov, hmm,
    context_tree, repeat, nca, eca, ca, dyck, shuffle_dyck, pcfg, procedural, lime, program, uniform, constant."""
    complexity: str = ""
    """Keep only machines whose rows have a compressibility between two values, as in '0.3:0.9': zlib's size of a row
    against that of noise (1: incompressible, near 0: constant). Empty: keep all."""
    target_acceptance: float = 0.5
    """While fewer of a family's rows than this share are inside --complexity at the first try, its gain is moved
    towards the band."""
    curriculum: list[str] = field(default_factory=list)
    """Changes of machines and complexity during training, each a mapping such as '{at: 2000, machines:
    "lstm=0.5,nca=0.5", complexity: 0.3:0.9}' ('at' is a training step; a mixture stands in quotes; in YAML, a list of
    mappings). What a stage does not name stays as in the stage before."""
    family: list[str] = field(default_factory=list)
    """Settings of single families, as in 'lstm.hidden_size=64 lstm.gain_range=1,4 language.words=400' (in YAML a list
    of these, or a mapping). A family's settings are the fields of its class in machines/. They stand before settings
    without a family's name."""
    context_length: int = 512
    """Symbols (and so tokens) in a row."""
    alphabet_size: int = 256
    """Number of symbols that machines read and write."""
    alphabet: Literal["identity", "permuted"] = "identity"
    """How symbols become tokens. 'identity': symbol s is the s-th token that is not special. 'permuted': each row
    through its own random injection into the whole vocabulary."""
    tokens: Literal["all", "printable"] = "all"
    """Which tokens rows may be made of. 'all': every one that is not special. 'printable': those whose text is
    printable ASCII, tabs and line feeds (97 of the byte tokenizer's 256): learns English and code sooner, but it is
    knowledge of the text to come."""
    num_layers: int = 1
    """Recurrent layers of an LSTM or GRU machine."""
    hidden_size: int = 128
    """Width of an LSTM or GRU machine."""
    embedding_scale: float = 1.0
    """Factor on a recurrent machine's N(0, 1) embedding. The paper has 1e-8."""
    gain_range: list[float] = field(default_factory=lambda: [3.0, 12.0])
    """Lowest and highest effective gain: the factor on a recurrent machine's weights and biases."""
    gain_law: Literal["log_uniform", "fourth_power"] = "log_uniform"
    """How gains lie in gain_range: 'log_uniform', or 'fourth_power' (u^4 with u uniform, what the paper's code
    does)."""
    temperature_range: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Lowest and highest temperature at which recurrent machines write symbols, log-uniform; '0 0' always takes the
    most likely symbol."""
    entropy_range: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """In place of a temperature: lowest and highest entropy of a recurrent machine's next symbol, in bits, uniform, as
    '0.9 2.1'. The read-out of each machine is scaled so that it has it: none is dead, none is noise. '0 0': off."""
    own_symbols_range: list[float] = field(default_factory=lambda: [32.0, 48.0])
    """Fewest and most symbols that a recurrent machine with a set entropy writes, log-uniform; cut to the alphabet."""
    conditioning: Literal["aligned", "prefix", "none"] = "aligned"
    """How a recurrent machine reads its condition. 'aligned': symbol by symbol beside its own output; 'prefix': all of
    it before it writes; 'none': not at all, only its own symbols."""
    seed_length: int = 8
    """Symbols that a recurrent machine is given to start from."""
    machines_per_round: int = 8
    """Machines of a family in a round; each serves an equal share of the rows."""
    redraw_every: int = 1
    """Rounds between two draws of new machines. 0: never: all rows come from the machines of the first round (of
    'markov', 'lstm' and others machines_per_round of them), whose laws can be learned by heart."""
    source_batch: int = 256
    """Rows generated in a round."""
    buffer_size: int = 2048
    """Rows in the buffer of one process."""
    rows_per_round: int = 256
    """Training rows that a process draws between two rounds; source_batch / rows_per_round is how many rows are
    generated for each one trained on."""
    reset_every: int = 1
    """Rounds between two resets of rows to noise."""
    num_resets: int = 4
    """Rows that a reset turns into noise: half uniform, half constant rows. Even."""
    burn_in_rounds: int = 24
    """Rounds before the first row is served."""
    sampling: Literal["with_replacement", "without_replacement"] = "with_replacement"
    """How rows are drawn from the buffer. 'with_replacement': each as likely as any other, so that many come twice and
    others never. 'without_replacement': those that have not been served since they were written come first, in random
    order, then those that were served longest ago. Make source_batch twice rows_per_round for it: if all that is
    written is served at once, a batch is from the machines of the last round alone."""
    ablation: Literal["none", "no_iteration", "shuffled_positions"] = "none"
    """A null model to compare with. 'no_iteration': machines read fresh noise and never what is in the buffer;
    'shuffled_positions': the symbols of each row are served in random order."""
    stream_seed: int = 0
    """Seed of the machines and the buffer."""
    recipe: str = ""
    """The preset that the settings come from, which --preset notes here; it decides nothing of the data.
    'finetune --transfer as_published' goes by it."""

    def __post_init__(self) -> None:
        # a mapping, as YAML has it, is kept as the texts that the flag takes; a frozen dataclass cannot assign
        object.__setattr__(self, "family", family_texts(self.family))
        self._check_types()
        _ = self.mixture  # refuses what is no mixture
        for name, low in _AT_LEAST.items():
            if not low <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least {low} and finite, not {getattr(self, name)}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        for name in ("buffer_size", "num_resets"):
            if getattr(self, name) % 2:
                raise ValueError(f"{name} must be even (half uniform, half constant rows), not {getattr(self, name)}")
        for name in ("source_batch", "num_resets"):
            if getattr(self, name) > self.buffer_size:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, but the buffer has only {self.buffer_size} rows: "
                    f"lower {name} or raise buffer_size"
                )
        if self.alphabet_size > 32_768:
            raise ValueError(f"alphabet_size must be at most 32768, not {self.alphabet_size}")
        if self.seed_length >= self.context_length:
            raise ValueError(
                f"seed_length is {self.seed_length}, but a row has only {self.context_length} symbols: "
                "lower seed_length or raise context_length"
            )
        self._check_range("gain_range", positive=True)
        self._check_range("temperature_range", positive=any(self.temperature_range))
        self._check_range("entropy_range", positive=any(self.entropy_range))
        self._check_range("own_symbols_range", positive=True)
        if self.own_symbols_range[0] < 2:
            raise ValueError(f"own_symbols_range must start at 2 or more, not at {self.own_symbols_range[0]}")
        if any(self.entropy_range) and any(self.temperature_range):
            raise ValueError("entropy_range stands in place of temperature_range: set one of the two to 0 0")
        if not 0 <= self.target_acceptance <= 1:
            raise ValueError(f"target_acceptance must be between 0 and 1, not {self.target_acceptance}")
        if self.band is not None and self.redraw_every != 1:
            raise ValueError(
                f"complexity needs new machines in each round: set redraw_every to 1, not {self.redraw_every}"
            )
        if self.band is not None and any(map(pool_of, self.mixture)):
            raise ValueError(
                f"complexity needs new machines in each round, and machines={self.machines!r} has a pool of machines "
                "that stay: leave out @N, or set complexity to ''"
            )
        if min(self.rows_of_families().values()) == 0:
            raise ValueError(
                f"source_batch is {self.source_batch}, too few rows to give each family in machines={self.machines!r} "
                "one: raise source_batch or drop the rarest family"
            )
        for name in self.family_settings:
            check_runs(name, build_family(name, self))
        _ = self.stages

    # ---- What follows from the fields ----

    @cached_property
    def mixture(self) -> dict[str, float]:
        """The shares of the parts of `machines`, such as `"lstm"` and `"language@64"`; they add up to 1."""
        return parse_mixture(self.machines)

    @cached_property
    def family_settings(self) -> dict[str, dict[str, Any]]:
        """The settings of single families, by family and field."""
        return read_family_settings(self.family)

    @cached_property
    def band(self) -> Band | None:
        """The band of `complexity`, if there is one."""
        return Band.parse(self.complexity) if self.complexity else None

    @property
    def stage_starts(self) -> list[int]:
        """The training steps at which the stages of the curriculum begin; 0 first."""
        return self._staged[0]

    @property
    def stages(self) -> list["SyntheticUPConfig"]:
        """These settings as they are in each stage of the curriculum; this itself is the first."""
        return self._staged[1]

    @cached_property
    def _staged(self) -> tuple[list[int], list["SyntheticUPConfig"]]:
        """For each stage of the curriculum its first step, and these settings as they are in it."""
        starts, stages = [0], [self]
        for entry in self.curriculum:
            try:
                stage = dict(load_yaml(entry) if isinstance(entry, str) else entry)
                at = stage.pop("at")
            except (TypeError, ValueError, KeyError) as error:
                raise ValueError(
                    f"curriculum: each stage must be a mapping such as {{at: 2000, machines: lstm}}, not {entry!r}"
                ) from error
            if not isinstance(at, int) or at <= starts[-1]:
                raise ValueError(f"curriculum: 'at' must be a step after {starts[-1]}, not {at!r}, in {entry!r}")
            if not stage or not stage.keys() <= {"machines", "complexity"}:
                raise ValueError(
                    f"curriculum: a stage changes machines, complexity or both, not {sorted(stage)}: put a mixture in "
                    'quotes, as in {at: 2000, machines: "lstm=0.5,nca=0.5"}'
                )
            try:
                stages.append(dataclasses.replace(stages[-1], curriculum=[], **stage))
            except (ValueError, AttributeError, TypeError) as error:  # also for what is no text
                raise ValueError(f"curriculum: {entry!r}: {error}") from error
            starts.append(at)
        return starts, stages

    def stage_at(self, step: int) -> int:
        """The number of the curriculum's stage that training step `step` is in; 0 before any change."""
        return bisect.bisect_right(self.stage_starts, step) - 1

    def _check_types(self) -> None:
        """Settings may come from a file that anyone has written."""
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            several = value if isinstance(value, (list, tuple)) else ()
            kind: Any = str if get_origin(f.type) is Literal else f.type
            fits = {
                int: isinstance(value, int),
                float: isinstance(value, (int, float)),
                str: isinstance(value, str),
                list[float]: len(several) > 0 and all(isinstance(item, (int, float)) for item in several),
                list[str]: isinstance(value, list),
            }[kind]
            if not fits or isinstance(value, bool):
                told = kind.__name__ if kind in (int, float, str) else kind
                raise ValueError(f"{f.name} must be of type {told}, not {value!r}")

    def _check_range(self, name: str, positive: bool) -> None:
        value = getattr(self, name)
        if len(value) != 2 or not all(map(math.isfinite, value)) or not value[0] <= value[1] or min(value) < 0:
            raise ValueError(f"{name} must be two finite numbers, the lower first and not negative, not {value}")
        if positive and value[0] <= 0:
            raise ValueError(f"{name} must start above 0, not at {value[0]}")

    def rows_of_families(self) -> dict[str, int]:
        """How many of the `source_batch` rows of a round each part of the mixture generates: its share, rounded."""
        return rows_of_shares(self.mixture, self.source_batch)

    @classmethod
    def preset(cls, name: str, max_steps: int, batch_size: int, **overrides: Any) -> "SyntheticUPConfig":
        """The data's settings of a preset (see `stream.presets`), for a run of `max_steps` steps of `batch_size` rows
        a process. `warm_start` is the preset for a start that helps on real text.

        Raises:
            ValueError: if there is no such preset.
        """
        if name not in PRESETS:
            raise ValueError(f"there is no preset {name!r}; known: {', '.join(PRESETS)}")
        known = {f.name for f in dataclasses.fields(cls)}
        settings = {key: value for key, value in PRESETS[name](max_steps, batch_size).items() if key in known}
        return cls(**{**settings, "recipe": name, **overrides})

    @classmethod
    def paper(cls, batch_size: int, **overrides: Any) -> "SyntheticUPConfig":
        """The recipe of arXiv 2506.20057 for training batches of `batch_size` rows a process (`presets.paper`)."""
        return cls(**{**presets.paper(1, batch_size), "recipe": "paper", **overrides})

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def decisive(self) -> dict[str, Any]:
        """The settings that decide the data: all but `recipe`."""
        return {name: value for name, value in self.to_dict().items() if name != "recipe"}

    def save_pretrained(self, save_directory: str | Path) -> Path:
        """Writes `synthetic_up_config.json` into the folder and returns its path."""
        path = Path(save_directory) / DATA_CONFIG_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        return path

    @classmethod
    def from_pretrained(cls, name: str | Path) -> "SyntheticUPConfig":
        """Reads `synthetic_up_config.json` from a folder or a Hub repository: with it, the stream can be made again.

        Raises:
            ValueError: if there is no such file, it is no JSON object, or has settings that this class does not know.
        """
        try:
            path = find_file(name, DATA_CONFIG_NAME)
        except OSError as error:
            raise ValueError(f"no {DATA_CONFIG_NAME} at {str(name)!r}: {first_line(error)}") from error
        if path is None:
            raise ValueError(f"there is no {DATA_CONFIG_NAME} in the folder or Hub repository {str(name)!r}")
        what, known = f"{path} is not a configuration of synthetic data", {f.name for f in dataclasses.fields(cls)}
        try:
            settings = load_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{what}: it is no JSON ({error})") from error
        if not isinstance(settings, dict):
            raise ValueError(f"{what}: it holds no settings")
        if not settings.keys() <= known:
            raise ValueError(f"{what}: unknown {sorted(set(settings) - known)}")
        try:
            return cls(**settings)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error


def differences(was: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs between two settings, in words: `"seed_length (was 8, now 4)"`; empty if nothing does."""
    names = dict.fromkeys([*now, *was])
    return ", ".join(f"{k} (was {was.get(k)}, now {now.get(k)})" for k in names if was.get(k) != now.get(k))


_AT_LEAST = {
    "context_length": 2, "alphabet_size": 2, "num_layers": 1, "hidden_size": 1, "embedding_scale": 0.0,
    "seed_length": 1, "machines_per_round": 1, "redraw_every": 0, "source_batch": 1, "buffer_size": 2,
    "rows_per_round": 1, "reset_every": 1, "num_resets": 0, "burn_in_rounds": 0, "stream_seed": 0,
}  # fmt: skip
_CHOICES = {f.name: get_args(f.type) for f in dataclasses.fields(SyntheticUPConfig) if get_origin(f.type) is Literal}
