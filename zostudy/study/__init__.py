"""The study: plan, trials, sweep, tracking, report and export."""
