"""Effects of distance pooled over GPUs and models, and what they say."""
