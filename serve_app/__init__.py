"""The online door: Ray Serve in front of `EditActor`, speaking OpenAI's Images API."""
