"""Stands for `requests`, which the SDK imports for what it asks the network: nothing, here."""


class RequestException(Exception):
    """What those that ask expect."""


def _refuse(*_args, **_more):
    raise RequestException("the agent asks the network for nothing")


get = post = request = _refuse
