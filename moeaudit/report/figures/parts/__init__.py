"""Parts that several figures are put together from."""
