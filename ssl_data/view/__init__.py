"""A store in the browser: a small server of its own, and a page that reads the store's arrays itself."""
