"""The SDK with a preparation, for measuring an installation."""

from exapp_sdk import ExApp, Progress

app = ExApp()


@app.init
async def prepare(progress: Progress) -> None:
    await progress.set(50)


if __name__ == "__main__":
    app.run(http="httptools", loop="uvloop", access_log=False, log_level="warning")
