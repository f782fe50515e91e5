from luna_lambda_tools import Counter, StandaloneLambdaRequest, logger

greetings = Counter("greetings", "Greetings by language", ["language"])
USER_METRICS = [greetings]


class UserCtx:
    """One for each worker: made at the start, at hand in every request."""

    async def onStart(self):
        self.words = {"en": "Hello", "fr": "Bonjour", "eo": "Saluton"}
        logger.info("%d languages are loaded", len(self.words))

    async def onShutdown(self):
        logger.info("farewell")

    def greet(self, language):
        return self.words.get(language, self.words["en"])


async def main(request: StandaloneLambdaRequest) -> dict:
    language = request.config.userConfig.get("language", "en")
    greetings.inc(labels={"language": language})
    return {"greeting": request.userCtx.greet(language)}
