"""Systems that lack what Linux has, played on this one."""
