# SPDX-License-Identifier: MIT
"""Tables of figures, for bench/run and what it imports."""
import statistics

WIDTHS = (34, 12, 12, 12, 0)


def say(*columns, widths=WIDTHS):
    print("".join(str(column).ljust(width) if i == 0 else str(column).rjust(width) + "  "
                  for i, (column, width) in enumerate(zip(columns, widths))).rstrip(), flush=True)


def head(title, *columns):
    print(f"\n{title}")
    say("", *columns)


def failed(what, error):
    say(what, "-", "-", "", f"({(str(error).splitlines() or ['failed'])[0][:90]})")


def summary(values):
    return f"{min(values):.0f}", f"{statistics.median(values):.0f}"


def verdict(value, most, median=None):
    """A goal, and whether it was met: always, at best, or not."""
    met = "missed" if value > most else "met at best" if (median or value) > most else "met"
    return f"<= {most:g}: {met}"
