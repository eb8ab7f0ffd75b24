"""The troublemakers. Each does its work at random moments while the workers are under load, until its goal is reached."""

from __future__ import annotations

import asyncio

import asyncpg

from aegispay.testing.postgres_proxy import AROUND_COMMIT, Moment
from tests.crash.rounds import Stage

ANYWHERE_SHARE = 0.1
_TERMINATE = """
    SELECT count(pg_terminate_backend(pid)) FROM (
        SELECT pid FROM pg_stat_activity
        WHERE application_name = 'aegispay' AND pid <> pg_backend_pid() AND backend_type = 'client backend'
        ORDER BY (state = 'active') DESC, random() LIMIT $1
    ) AS chosen"""


async def make_trouble(stage: Stage) -> None:
    """Returns when every goal of the plan is reached."""
    plan = stage.plan
    async with asyncio.TaskGroup() as tasks:
        if plan.postmaster_kills:
            tasks.create_task(_kill_postmaster(stage))
        if plan.cuts:
            tasks.create_task(_cut(stage))
        if plan.terminations:
            tasks.create_task(_terminate(stage))
        if plan.fills:
            tasks.create_task(_fill(stage))
        if plan.failovers:
            tasks.create_task(_fail_over(stage))
        tasks.create_task(_until_killed(stage))


async def _until_killed(stage: Stage) -> None:
    while stage.fleet.kills < stage.plan.worker_kills:
        await asyncio.sleep(0.02)


async def answered(stage: Stage, more: int) -> None:
    """Waits until so many more answers were given: the trouble that follows meets a shop at work."""
    goal = len(stage.fleet.answers) + more
    while len(stage.fleet.answers) < goal:
        await asyncio.sleep(0.01)


async def _kill_postmaster(stage: Stage) -> None:
    server = stage.server
    assert server is not None
    for _ in range(stage.plan.postmaster_kills):
        await answered(stage, 5)
        await stage.pause(0.0, 0.3)
        await asyncio.to_thread(server.kill)
        stage.count("postmaster_kills")
        await asyncio.to_thread(server.restart)
    await answered(stage, 5)


async def _cut(stage: Stage) -> None:
    """Each moment around COMMIT in turn, shuffled; now and then every connection, which doesn't count for the goal."""
    proxy, source = stage.proxy, stage.source
    assert proxy is not None
    moments: list[Moment] = []
    while stage.counts["cuts"] < stage.plan.cuts:
        await stage.pause(0.0, 0.12)
        if source.random() < ANYWHERE_SHARE:
            had = proxy.cuts[Moment.ANYWHERE]
            await proxy.cut(Moment.ANYWHERE)
            stage.count("cut_anywhere", proxy.cuts[Moment.ANYWHERE] - had)
            continue
        moments = moments or source.sample(AROUND_COMMIT, len(AROUND_COMMIT))
        moment = moments.pop()
        await proxy.cut(moment)
        stage.count(f"cut_{moment}")
        stage.count("cuts")


async def _terminate(stage: Stage) -> None:
    server = stage.server
    assert server is not None
    connection = await asyncpg.connect(server.dsn)
    try:
        while stage.counts["terminations"] < stage.plan.terminations:
            await stage.pause(0.0, 0.4)
            stage.count("terminations", await connection.fetchval(_TERMINATE, stage.source.randint(1, 3)))
    finally:
        await connection.close()


async def _fill(stage: Stage) -> None:
    disk = stage.disk
    assert disk is not None
    for _ in range(stage.plan.fills):
        await answered(stage, 10)
        await asyncio.to_thread(disk.fill)
        stage.count("fills")
        await stage.pause(0.3, 1.0)
        await asyncio.to_thread(disk.fill)
        await stage.pause(0.1, 0.5)
        disk.free()
        if stage.server is not None and not stage.server.running:
            # Without room for its log it ends, and somebody who has made room starts it again.
            stage.count("postgres_ended_on_full_disk")
            await asyncio.to_thread(stage.server.restart)
    await answered(stage, 10)


async def _fail_over(stage: Stage) -> None:
    server, standby = stage.server, stage.standby
    assert server is not None and standby is not None
    await answered(stage, 100)
    await stage.pause(0.0, 0.5)
    await asyncio.to_thread(server.kill)
    await stage.pause(0.0, 0.3)
    await asyncio.to_thread(standby.promote)
    stage.count("failovers")
    await answered(stage, 30)
