"""Rate limits by descriptors, as envoyproxy/ratelimit has them, counted by our own stores.

https://github.com/envoyproxy/ratelimit#configuration
"""
