"""A clock that never goes back, by a wall clock and a stopwatch that the test sets."""

from runtime.clock import SteadyClock

DAY_US = 86_400_000_000


class Watches:
    def __init__(self) -> None:
        self.wall_us = DAY_US
        self.elapsed_ns = 5_000

    def wall(self) -> int:
        return self.wall_us

    def elapsed(self) -> int:
        return self.elapsed_ns

    def pass_us(self, us: int) -> None:
        self.wall_us += us
        self.elapsed_ns += us * 1000


def test_it_says_what_the_wall_clock_says() -> None:
    watches = Watches()
    clock = SteadyClock(watches.wall, watches.elapsed)
    assert clock() == DAY_US
    watches.pass_us(250)
    assert clock() == DAY_US + 250


def test_set_back_it_goes_on_from_where_it_was() -> None:
    watches = Watches()
    clock = SteadyClock(watches.wall, watches.elapsed)
    watches.pass_us(10)
    watches.wall_us -= DAY_US
    assert clock() == DAY_US + 10
    watches.pass_us(7)
    assert clock() == DAY_US + 17


def test_set_forward_it_follows_and_does_not_come_back() -> None:
    watches = Watches()
    clock = SteadyClock(watches.wall, watches.elapsed)
    watches.wall_us += DAY_US
    assert clock() == 2 * DAY_US
    watches.wall_us -= DAY_US
    watches.pass_us(3)
    assert clock() == 2 * DAY_US + 3
