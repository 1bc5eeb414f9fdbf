"""The parameter and cost table, from kept measurements."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark import methods
from benchmark.backbones.records import Record
from benchmark.backbones.room import GIB

_TITLES = {
    "lorsu": "LoRSU",
    "full_finetune": "F-FT",
    "layernorm": "LN",
    "lora": "LoRA",
    "spu": "SPU",
}
_HEAD = (
    "| backbone | method | batch | numbers trained | by the paper's count | share of the tower "
    "| GFLOP a step | CPU minutes an epoch | and of scoring | peak memory, GiB | adapter, MB |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|\n"
)


def markdown(records: Sequence[Record]) -> str:
    """A line a backbone and method: backbones by size, methods in their usual order."""
    order = methods.method_names()

    def place(record: Record) -> tuple[int, str, int]:
        return record["tower_parameters"], record["model"], order.index(record["method"])

    return _HEAD + "".join(_line(record) for record in sorted(records, key=place))


def _line(record: Record) -> str:
    trained, tower = record["trained"], record["tower_parameters"]
    scoring = record["cpu_minutes_of_scoring"]
    cells = (
        record["model"],
        _TITLES.get(record["method"]) or str(record["method"]),
        str(record["batch"]),
        f"{trained:,}",
        f"{record['trained_by_the_papers_count']:,}",
        f"{100 * trained / tower:.2f} %",
        f"{record['flops_a_step'] / 1e9:,.0f}",
        f"{record['cpu_minutes_an_epoch']:.1f}",
        f"{scoring:.1f}" if scoring else "",
        f"{record['peak_bytes'] / GIB:.1f}",
        f"{record['adapter_bytes'] / 1e6:,.1f}",
    )
    return f"| {' | '.join(cells)} |\n"
