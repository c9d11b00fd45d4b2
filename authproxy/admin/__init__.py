"""The admin listener: what operators, load balancers and monitoring read over HTTP, never public.

`figures` reads a snapshot of counters, tolerantly; `history` has the last quarter of an hour, for
rates and charts, and `recent` the last warnings and errors; `certificates` and `in_force` show what
is used and what is set. `report` is all of it as plain data, which /status.json is. `formats`,
`charts`, `pieces`, `panels` and `page` make of a report what people read. `resources` are the paths
and who may ask for them, `listener` is the service: the socket, its limits, the samples.
"""
