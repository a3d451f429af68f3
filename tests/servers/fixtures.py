"""Fixtures of the servers; ``tests/conftest.py`` loads them by ``pytest_plugins``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.servers import browser as browsers
from tests.servers import dask_gateway as gateways
from tests.servers.dask_gateway import DaskGateway
from tests.servers.fault_proxy import FaultProxy
from tests.servers.stac_api import StacApi, running_stac_api, why_not


@pytest.fixture(scope="session")
def stac_api_server() -> Iterator[StacApi]:
    """The one STAC API server of the whole run."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with running_stac_api() as server:
        yield server


@pytest.fixture
def stac_api(stac_api_server: StacApi) -> StacApi:
    """The STAC API server with an empty catalog; mark its users ``postgres``."""
    stac_api_server.clear()
    return stac_api_server


@pytest.fixture
def fault_proxy(stac_api: StacApi) -> Iterator[FaultProxy]:
    """A proxy before the STAC API server that lets faults befall requests."""
    with FaultProxy(stac_api.url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser; by module, since its driver keeps an event loop in this thread."""
    reason = browsers.why_not()
    if reason:
        pytest.skip(reason)
    with browsers.running_browser() as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page 1280 pixels wide, which fails its test if a script of it does."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    # A busy machine takes its time to draw; what does not come at all is found all the same.
    context.set_default_timeout(300_000)
    expect.set_options(timeout=120_000)
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert not errors


@pytest.fixture(scope="session")
def dask_gateway() -> Iterator[DaskGateway]:
    """The one Dask Gateway of the whole run."""
    reason = gateways.why_not()
    if reason:
        pytest.skip(reason)
    with gateways.running_gateway() as gateway:
        yield gateway
