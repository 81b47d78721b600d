"""Where operations and callbacks are found: routes, decorated endpoints, OpenAPI documents."""
