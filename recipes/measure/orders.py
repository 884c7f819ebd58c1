"""How far back the rows of one machine reach: what the last 0, 1, 2 ... symbols tell about the next.

    python recipes/measure/orders.py --machines language,two_clocks,lstm,gru,rnn,reservoir --conditioning none \\
        --entropy_range 0.9 2.1 --hidden_size 64 --gain_range 1 4

For each family: `--count` machines as a pool has them, each writing one long text; the bits a symbol of a Markov model
that learns as it reads (the best of four smoothings), over the second half of the text. Where bits go on falling with
the order, there is structure of many symbols; that they rise in the end is for lack of text.
"""

from dataclasses import dataclass

import torch

from hf_universal_pretrain import SyntheticUPConfig
from hf_universal_pretrain.commands.arguments import parse_args
from hf_universal_pretrain.commands.endings import usage_errors
from hf_universal_pretrain.evaluation.baselines import markov_bits
from hf_universal_pretrain.machines.pool import Pool, take
from hf_universal_pretrain.stream.families import build_family


ORDERS = range(6)
SMOOTHINGS = (0.1, 0.01, 0.001, 0.0001)


@dataclass
class ScriptArguments:
    count: int = 8
    """Machines of each family."""
    rows: int = 64
    """Rows of a machine's text."""
    length: int = 4096
    """Symbols of each of these rows."""


def bits_by_order(text: torch.Tensor, alphabet_size: int) -> list[float]:
    """Bits a symbol over the second half of a text, `(length,)` integers below 256, for each of `ORDERS`."""
    half = len(text) // 2
    return [
        min(markov_bits(text[None], order, s, alphabet_size)[:, half:].mean().item() for s in SMOOTHINGS)
        for order in ORDERS
    ]


def texts(name: str, config: SyntheticUPConfig, script: ScriptArguments) -> list[torch.Tensor]:
    """What each of some machines of a family writes: its rows, one after the other."""
    pool = Pool(name, build_family(name, config), config.stream_seed, torch.device("cpu"))
    machines, generator = pool.first(script.count), torch.Generator().manual_seed(config.stream_seed)
    one_a_row = pool.family.machines_for(script.rows) == script.rows > 1
    written = []
    for number in range(script.count):
        conditions = torch.randint(config.alphabet_size, (script.rows, script.length), generator=generator)
        mine = take(machines, torch.full((script.rows if one_a_row else 1,), number))
        written.append(mine.generate(conditions[:, : config.seed_length], conditions, generator).flatten())
    return written


def main() -> None:
    script, config = parse_args((ScriptArguments, SyntheticUPConfig), __doc__, lambda asked: {})
    torch.set_num_threads(1)
    with usage_errors():
        if config.alphabet_size > 256:
            raise ValueError(f"alphabet_size must be at most 256 here, not {config.alphabet_size}")
        for name in config.mixture:
            if build_family(name, config).machines_for(1) == 0:
                raise ValueError(f"machines: {name!r} has no machines that could stay: leave it out")
    print("| family | " + " | ".join(f"order {order}" for order in ORDERS) + " |")
    print("|" + "---|" * (1 + len(ORDERS)))
    for name in config.mixture:
        found = torch.tensor([bits_by_order(text, config.alphabet_size) for text in texts(name, config, script)])
        print(f"| `{name}` | " + " | ".join(f"{bits:.2f}" for bits in found.mean(0).tolist()) + " |", flush=True)


if __name__ == "__main__":
    main()
