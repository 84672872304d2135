"""The pipeline forecast: whether and when deals are won, sums of them as distributions, and how right that was.

Belongs here: methods on data frames. Does not: reading marts, storing forecasts, pages. See docs/forecast.md.
"""
