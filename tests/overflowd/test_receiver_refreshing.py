"""What is believed of a reporter is looked at again."""

from __future__ import annotations

from pathlib import Path

from jfe_cni.overflowd.notices.keys import KeyRing, new_key
from jfe_cni.overflowd.receiver.refreshing import AGAIN
from jfe_cni.overflowd.receiver.service import Receiver
from tests.overflowd.attack import Time
from tests.overflowd.receiving import Authority, Publisher, laboratory, metric, post, started, until


async def test_a_key_that_is_withdrawn_is_believed_no_more(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    running = Time(0)
    async with started(laboratory(tmp_path, trusted, publisher), monotonic=running) as receiver:

        async def status(ring: KeyRing) -> int:
            return (await post(receiver.http, publisher.signed(ring.signing))).status_code

        stolen = publisher.ring
        assert await status(stolen) == 200
        publisher.ring = publisher.ring.rotated(0, overlap=1 << 40)
        assert await status(publisher.ring) == 200, "published beside the former"
        publisher.ring = KeyRing(publisher.ring.signing)
        assert await status(stolen) == 200, "it is withdrawn, and that is not known"
        assert publisher.asked == 2

        running.now += AGAIN
        assert await status(publisher.ring) == 200
        # The first is that of the rotation.
        await until(lambda: _rotated(receiver, 2))
        assert await status(stolen) != 200
        assert await status(publisher.ring) == 200


async def test_keys_that_are_all_withdrawn_stay_until_a_person_says_so(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    running = Time(0)
    async with started(laboratory(tmp_path, trusted, publisher), monotonic=running) as receiver:
        assert (await post(receiver.http, publisher.signed())).status_code == 200
        former, publisher.ring = publisher.ring, KeyRing(new_key())
        running.now += AGAIN
        assert (await post(receiver.http, publisher.signed(former.signing))).status_code == 200
        await until(lambda: metric(receiver, "pins", "changed"))
        assert (await post(receiver.http, publisher.signed(former.signing))).status_code == 200


async def _rotated(receiver: Receiver, times: int) -> bool:
    return await metric(receiver, "pins", "rotated") == times
