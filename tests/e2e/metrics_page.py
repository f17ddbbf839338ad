"""What a scrape of the admin port gave, for tests to ask."""

from __future__ import annotations

import aiohttp
from prometheus_client.parser import text_string_to_metric_families


class Page:
    """What a scrape gave."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Of the sample with these labels among its own; their sum where there are several."""
        return sum(
            value
            for (its_name, its_labels), value in self.samples.items()
            if its_name == f"telbridge_{name}" and labels.items() <= dict(its_labels).items()
        )


async def scraped(admin: str) -> Page:
    async with aiohttp.ClientSession() as http, http.get(f"{admin}/metrics") as answer:
        assert answer.status == 200
        return Page(await answer.text())
