"""Setting off what Nextcloud would ask an app because of something that people do.

One function per thing, for the command line (`trigger`) and the fixtures alike. Each takes sample
data unless it is given real data, waits for the app's answer, and returns an `Outcome`.
"""

from appapi_host.triggers.file_actions import FileNode, trigger_file_action
from appapi_host.triggers.outcome import Outcome, Told
from appapi_host.triggers.settings import SettingOutcome, trigger_setting
from appapi_host.triggers.talk import TalkOutcome, trigger_talk
from appapi_host.triggers.tasks import TaskOutcome, trigger_task
from appapi_host.triggers.webhooks import trigger_webhook

__all__ = [
    "FileNode",
    "Outcome",
    "SettingOutcome",
    "TalkOutcome",
    "TaskOutcome",
    "Told",
    "trigger_file_action",
    "trigger_setting",
    "trigger_talk",
    "trigger_task",
    "trigger_webhook",
]
