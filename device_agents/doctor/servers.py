"""A server and the way to it: is it there, is it ready, does it host this bundle, is it near enough?"""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio

from isthmus.device_agents.doctor.finding import Finding, dates_of, fail, ok, warn
from isthmus.device_agents.operation.link_test import LinkReport, measure_link
from isthmus.device_agents.uplink.peer import ask_bundle, ask_capability, check_model, error_text, is_ready
from isthmus.device_agents.uplink.trust import why_refused
from isthmus.runtime.bundle import Manifest
from isthmus.runtime.errors import IsthmusError
from isthmus.runtime.units import format_duration, format_rate
from isthmus.runtime.wire import InferenceStub
from isthmus.runtime.wire.certificate import parse_der, peer_certificate
from isthmus.runtime.wire.tls import DEFAULT_SECURITY, ClientSecurity, host_of

# The doctor's link test: enough for an estimate, little on a metered link.
_TEST_BYTES, _TEST_S = 200_000, 5.0


async def examine_server(
    server: str,
    *,
    model: str,
    manifest: Manifest | None,
    digest: str | None = None,
    deadline_s: float,
    timeout_s: float,
    security: ClientSecurity = DEFAULT_SECURITY,
) -> list[Finding]:
    """Return what there is to say of `server` (HOST:PORT).

    Args:
        server: Its address.
        model: The model's name there; empty: not known.
        manifest: Of the bundle that must match; None: not known.
        digest: Of that bundle.
        deadline_s: Within which frames are to be answered.
        timeout_s: Of each question.
        security: How it is spoken to.
    """
    name = f"server {server}"
    async with security.channel(server) as channel:
        stub = InferenceStub(channel, security.metadata(server))
        try:
            capability = await ask_capability(stub, model, timeout_s=timeout_s)
            if manifest is not None:
                check_model(capability, manifest)
            ready = await is_ready(stub, model, timeout_s=timeout_s)
            there = await ask_bundle(stub, model, capability, timeout_s=timeout_s) if digest else None
        except (grpc.aio.AioRpcError, IsthmusError) as error:
            if (
                not model
                and isinstance(error, grpc.aio.AioRpcError)
                and error.code() is grpc.StatusCode.NOT_FOUND
            ):
                return [
                    warn(
                        name,
                        "is there; whether it hosts the model is not known",
                        "name a bundle, or give --model",
                    ),
                    await _examine_link(server, model, deadline_s, security),
                ]
            return [await _refused(name, server, model, security, error)]
    form = "payloads" if capability.payload else "plain latents"
    way = "over a stream" if capability.stream else "one call a frame"
    told = f"{capability.server}: model '{model}', {form} {way}"
    found = ok(name, told) if ready else fail(name, f"{told}; not ready", "wait for it, or see its log")
    findings = [found]
    if digest is not None:
        findings.append(_same_bundle(f"bundle on {server}", digest, there))
    if security.is_secure(server):
        findings.append(await _certificate(server))
    return [*findings, await _examine_link(server, model, deadline_s, security)]


def _same_bundle(name: str, here: str, there: str | None) -> Finding:
    if there is None:
        return ok(name, "the server does not say which it is; its latents have the shape of this one's")
    if there == here:
        return ok(name, f"the same as here ({here[:12]})")
    return fail(
        name,
        f"another export: {there[:12]} there, {here[:12]} here; its tail does not belong to these heads",
        "serve the same bundle on both ends",
    )


async def _refused(
    name: str,
    server: str,
    model: str,
    security: ClientSecurity,
    error: grpc.aio.AioRpcError | IsthmusError,
) -> Finding:
    deliberate = await why_refused(error, server=server, model=model, security=security)
    if deliberate is not None:
        text, _, remedy = str(deliberate).removeprefix(f"server {server}: ").rpartition("; ")
        return fail(name, text or str(deliberate), remedy or "serve the same bundle there")
    return fail(
        name,
        f"cannot be reached ({error_text(error)})",
        "start it with 'isthmus serve', or open the way to it",
    )


async def _certificate(server: str) -> Finding:
    name = f"certificate of {server}"
    host, port = host_of(server), int(server.rpartition(":")[2])
    shown = await asyncio.to_thread(peer_certificate, host, port)
    if shown is None:
        return warn(name, "was not shown a second time", "see the server's log")
    return dates_of(name, parse_der(shown), "renew it there, before agents are turned away")


async def _examine_link(server: str, model: str, deadline_s: float, security: ClientSecurity) -> Finding:
    name = f"link to {server}"
    try:
        report = await measure_link(
            server, model=model, most_bytes=_TEST_BYTES, longest_s=_TEST_S, security=security
        )
    except IsthmusError as error:
        text, _, remedy = str(error).rpartition("; ")
        return fail(name, text, remedy)
    median_s = report.rtt_s[len(report.rtt_s) // 2]
    text = link_text(report)
    if median_s > deadline_s:
        return fail(
            name,
            f"{text}; longer than the deadline of {format_duration(deadline_s)}",
            "no frame could be answered there in time: choose a nearer server or a later deadline",
        )
    if median_s > 0.5 * deadline_s:
        return warn(
            name,
            f"{text}; more than half of the deadline of {format_duration(deadline_s)}",
            "choose a nearer server or a later deadline",
        )
    return ok(name, text)


def link_text(report: LinkReport) -> str:
    """Return a link test in one line."""
    median_s = report.rtt_s[len(report.rtt_s) // 2]
    rtt = f"RTT {format_duration(median_s)} (up to {format_duration(report.rtt_s[-1])})"
    if not report.rates:
        return f"{rtt}, uplink not measured"
    spread = f"{format_rate(min(report.rates))} to {format_rate(max(report.rates))}"
    return f"{rtt}, uplink about {format_rate(report.rate_bytes_per_s)} ({spread})"
