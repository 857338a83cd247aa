"""Clocks that go apart: tokens are refused when they differ by LEEWAY."""

from nexus.auth import tokens
from nexus.doctor.findings import Finding, fault, ok, warning

#: Clocks that differ by so much have tokens refused, seconds.
LEEWAY = tokens.LEEWAY
#: Clocks that differ by more will soon refuse good tokens. Seconds; from LEEWAY on they do.
SKEW_WARNING = 10


def skew(who: str, ahead: float) -> Finding:
    """What a clock that is so many seconds ahead of ours means."""
    seconds = round(abs(ahead))
    apart = f"{seconds} s {'ahead of' if ahead > 0 else 'behind'}"
    remedy = "let both take the time from the network (NTP); see which of them is wrong"
    if seconds >= LEEWAY:
        return fault(
            "clock",
            f"the clock of {who} is {apart} this machine's, and tokens may differ by {LEEWAY} s",
            remedy,
        )
    if seconds >= SKEW_WARNING:
        return warning("clock", f"the clock of {who} is {apart} this machine's", remedy)
    return ok("clock", f"the clock of {who} agrees with this machine's to {seconds} s")
