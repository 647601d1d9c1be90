"""A pytest plugin: leaves out tests that start other processes, which an emulator of one cannot."""


def pytest_collection_modifyitems(config, items):
    spawning = [
        item
        for item in items
        if "child" in item.fixturenames or item.get_closest_marker("forks") is not None
    ]
    config.hook.pytest_deselected(items=spawning)
    items[:] = [item for item in items if item not in spawning]
