"""Watching of ModelScope's client: time limits for its connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sottovoce.network.attended import current, time_limit
from sottovoce.network.logs import clean_logs
from sottovoce.network.sockets import watch

if TYPE_CHECKING:
    from modelscope_hub import HubApi


class _Connecting:
    """Connection of the HTTP library whose socket is watched."""

    sock: Any

    def connect(self) -> None:
        line = current()
        if line is None:
            super().connect()  # type: ignore[misc]
        else:
            with line.waiting():
                super().connect()  # type: ignore[misc]
        watch(self.sock)


def attend(api: HubApi) -> HubApi:
    """Watch the connections that a client opens from now on, and clean its logs.

    Returns:
        The client.
    """
    from requests import Session

    for client in (api.legacy, api.openapi):
        for session in vars(client).values():
            if isinstance(session, Session):
                for adapter in session.adapters.values():
                    _attend(adapter)
    clean_logs("modelscope_hub", api.legacy.token)
    return api


def _attend(adapter: Any) -> None:
    retries = getattr(adapter, "max_retries", None)
    if retries is not None:
        # A server may ask for a pause of days, which older versions of the library can only ignore entirely.
        known = hasattr(retries, "retry_after_max")
        limit = {"retry_after_max": max(int(time_limit()), 1)} if known else {"respect_retry_after_header": False}
        adapter.max_retries = retries.new(**limit)
    _configure(adapter.poolmanager)
    manager_for = adapter.proxy_manager_for

    def attended_manager_for(proxy: str, **options: Any) -> Any:
        manager = manager_for(proxy, **options)
        _configure(manager)
        return manager

    adapter.proxy_manager_for = attended_manager_for


def _configure(manager: Any) -> None:
    pools = dict(manager.pool_classes_by_scheme)
    for scheme, pool in pools.items():
        if not issubclass(pool.ConnectionCls, _Connecting):
            connection = type(pool.ConnectionCls.__name__, (_Connecting, pool.ConnectionCls), {})
            pools[scheme] = type(pool.__name__, (pool,), {"ConnectionCls": connection})
    manager.pool_classes_by_scheme = pools
