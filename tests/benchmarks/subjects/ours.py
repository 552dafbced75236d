"""The SDK with its authentication on."""

from exapp_sdk import Access, ExApp

app = ExApp()


@app.get("/hello", access=Access.USER)
async def hello(request: object) -> dict[str, str]:
    return {"hello": "world"}


if __name__ == "__main__":
    app.run(http="httptools", loop="uvloop", access_log=False, log_level="warning")
