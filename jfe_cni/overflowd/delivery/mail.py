"""To the abuse desk of an address's network, by mail: what a person can read, and XARF for its machines. The last way,
and for what is said to be abuse alone."""

from __future__ import annotations

import asyncio
import json
import smtplib
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.delivery.answers import Answer
from jfe_cni.overflowd.delivery.budgets import Budgets
from jfe_cni.overflowd.delivery.outcomes import Told
from jfe_cni.overflowd.delivery.rdap import Rdap
from jfe_cni.overflowd.notices import xarf
from jfe_cni.overflowd.notices.notice import Notice

_SECONDS = 20.0
_CONTENT = """\
{description}

Source:       {source}
Destination:  {destination}
Protocol:     {protocol}
Packets:      {packets} ({octets} bytes), as far as they were looked at: one in {sampling}
First seen:   {first}

This is one of about {every} packets that we carried for which we tell somebody. The same as XARF v4
is attached; the notice in it is signed by a key that is published at
{keys}

{organisation}
{contact}
"""


@dataclass(frozen=True)
class MailServer:
    """That takes mail from here. `secured`: whether by STARTTLS, its certificate verified."""

    host: str
    port: int
    sender: str
    secured: bool


class MailWay:
    """`most`: letters under way at once, each in a thread of its own; beyond it the answer is `not-now`."""

    def __init__(self, server: MailServer, rdap: Rdap, budgets: Budgets, most: int) -> None:
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="mail")
        self._most = most
        self._under_way = 0
        self._server = server
        self._rdap = rdap
        self._budgets = budgets

    async def tell(self, address: Address, notice: Notice, signed: bytes) -> Answer:
        """`notice`: of which there is a report (`xarf.untold`). Raises JfeError: the budgets can't be asked."""
        report = xarf.report(notice, signed)
        assert not isinstance(report, xarf.Untold), report
        if self._under_way >= self._most:
            return Answer(Told.NOT_NOW)
        self._under_way += 1
        try:
            return await self._mail(address, notice, report)
        finally:
            self._under_way -= 1

    def close(self) -> None:
        """What is being said to the server is said to its end; nobody waits for it."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _mail(self, address: Address, notice: Notice, report: dict[str, object]) -> Answer:
        contact = await self._rdap.contact(address)
        if contact is None:
            return Answer(Told.NO_CONTACT)
        if await self._budgets.admit_contact(f"{notice.nonce} {notice.to}", contact) is not None:
            return Answer(Told.NOT_NOW)
        message = letter(notice, report, self._server.sender, contact)
        return Answer(await asyncio.get_running_loop().run_in_executor(self._threads, self._send, message))

    def _send(self, message: EmailMessage) -> Told:
        try:
            with smtplib.SMTP(self._server.host, self._server.port, timeout=_SECONDS) as connection:
                if self._server.secured:
                    connection.starttls(context=ssl.create_default_context())
                connection.send_message(message)
        except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused, smtplib.SMTPNotSupportedError):
            return Told.REFUSED
        except (smtplib.SMTPException, OSError):
            return Told.NO_ANSWER
        return Told.TAKEN


def letter(notice: Notice, report: dict[str, object], sender: str, contact: str) -> EmailMessage:
    """`report`: of `xarf.report`."""
    flow = notice.flow
    message = EmailMessage()
    message["From"], message["To"] = sender, contact
    message["Reply-To"] = notice.reporter.contact
    message["Subject"] = f"Abuse report: {notice.classified} from {flow.source}"
    message["Date"] = format_datetime(datetime.fromtimestamp(notice.made / 1e6, UTC))
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    # Nobody's vacation need answer it (RFC 3834, section 5).
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(
        _CONTENT.format(
            description=xarf.describe(notice),
            source=_end(str(flow.source), flow.source_port),
            destination=_end(str(flow.destination), flow.destination_port),
            protocol=report["protocol"],
            packets=flow.packets,
            octets=flow.octets,
            sampling=max(flow.sampling, 1),
            first=report["first_seen"],
            every=f"{round(1 / notice.odds):,}",
            keys=notice.reporter.keys,
            organisation=notice.reporter.organisation,
            contact=notice.reporter.contact,
        )
    )
    message.add_attachment(
        json.dumps(report, indent=2).encode(), maintype="application", subtype="json", filename="xarf.json"
    )
    return message


def _end(address: str, port: int) -> str:
    return f"{address}, port {port}" if port else address
