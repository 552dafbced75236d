"""What the host asks its apps because of something that happened: tasks, messages.

Nobody waits for the answers. What goes wrong is said on the bus, where the developer of the app
sees it.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio

from appapi_host.app_client import Answer, AppClient, StreamedAnswer, php_json
from appapi_host.errors import HostError, NotFoundError
from appapi_host.events import EventBus, Notice
from appapi_host.records import AppRecord
from appapi_host.registry import Registry
from appapi_host.settings import HostSettings
from appapi_host.task_providers import Provider, task_type_of
from appapi_host.tasks import Task, Tasks
from exapp_sdk.errors import TransportError

__all__ = ["Errands"]

TRIGGER_SECONDS: Final = 3.0
TASK_WEBHOOK_SECONDS: Final = 30.0
TALK_SECONDS: Final = 3.0

TRIGGER_SINCE: Final = 33
"""The first Nextcloud that tells workers of a task; before, they have to look by themselves."""

_VERBS: Final = frozenset({"GET", "POST", "PUT", "DELETE"})


class Errands:
    """Asks apps.

    Args:
        settings: which Nextcloud the host stands for.
        registry: which apps there are.
        client: how they are asked.
        url_of: where they are.
        bus: told of what goes wrong.
        tasks: the queue.
        start: runs something that nobody waits for.
    """

    def __init__(
        self,
        settings: HostSettings,
        *,
        registry: Registry,
        client: AppClient,
        url_of: Callable[[AppRecord], str],
        bus: EventBus,
        tasks: Tasks,
        start: Callable[[Callable[[], Coroutine[Any, Any, object]]], object],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._client = client
        self._url_of = url_of
        self._bus = bus
        self._tasks = tasks
        self._start = start

    async def schedule_task(
        self,
        task_type: str,
        values: Mapping[str, Any],
        *,
        app_id: str,
        user_id: str | None,
        custom_id: str | None = None,
        webhook_uri: str | None = None,
        webhook_method: str | None = None,
    ) -> Task:
        """Put a task into the queue, and have the app that provides it told.

        Args:
            task_type: id of the kind of task.
            values: the input.
            app_id: which app asks for it.
            user_id: who wants it.
            custom_id: what that app calls it.
            webhook_uri: whom to tell when it is over.
            webhook_method: how, for instance `AppAPI:app_id:POST`.

        Raises:
            NotFoundError: no enabled app provides it.
            HostError: the input does not fit.
        """
        provider = await self.provider_of(task_type)
        task, is_trigger_due = await self.queue_task(
            provider,
            values,
            app_id=app_id,
            user_id=user_id,
            custom_id=custom_id,
            webhook_uri=webhook_uri,
            webhook_method=webhook_method,
        )
        if is_trigger_due:
            self._start(lambda: self.trigger(provider))
        return task

    async def provider_of(self, task_type: str) -> Provider:
        """Who will probably do a kind of task: the first enabled app that registered for it.

        Raises:
            NotFoundError: nobody.
        """
        for provider in await self._tasks.providers():
            if provider.task_type == task_type and task_type_of(provider) is not None:
                return provider
        raise NotFoundError(
            f"No provider of {task_type} is available", remedy="enable an app that registers one"
        )

    async def queue_task(
        self, provider: Provider, values: Mapping[str, Any], **options: Any
    ) -> tuple[Task, bool]:
        """Put a task for a provider into the queue, without telling anybody.

        Args:
            provider: who will probably do it.
            values: the input.
            options: as `schedule_task()` takes them.

        Returns:
            The task, and whether the app has to be told that there is something to do.

        Raises:
            HostError: the input does not fit, or nobody described this kind of task.
        """
        described = task_type_of(provider)
        if described is None:
            raise HostError(f"nobody described the task type {provider.task_type}")
        task, is_first = await self._tasks.schedule(described, provider, values, **options)
        return task, is_first and self.triggers_workers

    @property
    def triggers_workers(self) -> bool:
        """Whether this Nextcloud tells workers that there is something to do."""
        return self._settings.nextcloud_version >= TRIGGER_SINCE

    async def trigger(self, provider: Provider) -> Answer | None:
        """Tell an app that there is something to do for one of its providers."""
        return await self._ask(
            provider.app_id,
            "POST",
            f"/trigger?providerId={provider.name}",
            seconds=TRIGGER_SECONDS,
        )

    def task_ended(self, task: Task) -> None:
        """Tell who wanted to know that a task is over: an app, or anybody at an address."""
        kind, _, rest = (task.webhook_method or "").partition(":")
        uri = task.webhook_uri or ""
        body = {"task": task.to_wire()}
        app_id, _, verb = rest.partition(":")
        if kind == "AppAPI" and verb in _VERBS and uri.startswith("/"):
            self._start(
                lambda: self._ask(
                    app_id,
                    verb,
                    uri,
                    seconds=TASK_WEBHOOK_SECONDS,
                    user_id=task.user_id or "",
                    body=body,
                )
            )
        elif kind == "HTTP" and rest in _VERBS and uri.startswith(("http://", "https://")):
            self._start(lambda: self._ask_elsewhere(task.app_id, rest, uri, body))

    async def _ask_elsewhere(
        self, app_id: str, method: str, url: str, body: Mapping[str, Any]
    ) -> None:
        """Tell somebody who is no app; a notice if that does not work."""
        try:
            with anyio.fail_after(TASK_WEBHOOK_SECONDS):
                await self._client.ask_elsewhere(
                    method,
                    url,
                    app_id=app_id,
                    headers=[("Content-Type", "application/json")],
                    content=php_json(body),
                )
        except TransportError as error:
            reason = str(error)
        except TimeoutError:
            reason = f"no answer within {TASK_WEBHOOK_SECONDS:g} s"
        else:
            return
        self._bus.emit(Notice(app_id, f"webhook of a task, {method} {url}: {reason}"))

    @asynccontextmanager
    async def run_command(
        self, app_id: str, handler: str, words: Mapping[str, Any]
    ) -> AsyncIterator[StreamedAnswer]:
        """Run a command of an app; it may take as long as it wants.

        Args:
            app_id: the app.
            handler: path of what runs it.
            words: `arguments` and `options` by name, each None if the command has none.

        Raises:
            NotFoundError: no such app.
            HostError: it is not enabled.
            TransportError: it does not answer, or breaks off; raised from the body too.
        """
        app = await self._registry.app(app_id)
        if app is None:
            raise NotFoundError(f"ExApp {app_id} not found.")
        if not app.enabled:
            raise HostError(
                f"ExApp {app_id} is disabled.", remedy=f"occ app_api:app:enable {app_id}"
            )
        async with self._client.ask_for_stream(
            app,
            self._url_of(app),
            "POST",
            f"/{handler.lstrip('/')}",
            content=php_json({"occ": dict(words)}),
        ) as answer:
            yield answer

    async def deliver_message(
        self, app_id: str, route: str, activity: Mapping[str, Any]
    ) -> Answer | None:
        """Hand a message of a conversation to a bot."""
        return await self._ask(
            app_id,
            "POST",
            f"/{route.lstrip('/')}",
            seconds=TALK_SECONDS,
            body={**activity, "appId": app_id, "route": route},
            request_id="",
        )

    async def _ask(
        self,
        app_id: str,
        method: str,
        target: str,
        *,
        seconds: float,
        user_id: str = "",
        body: Mapping[str, Any] | None = None,
        request_id: str = "CLI",
    ) -> Answer | None:
        """Ask an app that is enabled; None, and a notice, if it does not answer in time."""
        app = await self._registry.app(app_id)
        if app is None or not app.enabled:
            self._bus.emit(Notice(app_id, f"was not asked for {method} {target}: not enabled"))
            return None
        try:
            with anyio.fail_after(seconds):
                return await self._client.ask(
                    app,
                    self._url_of(app),
                    method,
                    target,
                    user_id=user_id,
                    content=b"" if body is None else php_json(body),
                    content_type="" if body is None else "application/json",
                    request_id=request_id,
                )
        except (TransportError, HostError) as error:
            reason = str(error)
        except TimeoutError:
            reason = f"no answer within {seconds:g} s"
        self._bus.emit(Notice(app_id, f"{method} {target}: {reason}"))
        return None
