//! Paths as templates: `/firewalls/7/` matches `/firewalls/{firewall_id}/`. Logs, metrics and
//! traces thus have a few names for all requests.

use std::sync::Arc;

use fireflow_domain::spelling::nearest;
use serde_json::Value;

/// The name of a path that the API does not have.
pub const UNMATCHED: &str = "unmatched";

/// A path of the API.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// The path with names for its parameters, below the base path.
    pub template: Arc<str>,
    steps: Vec<String>,
    /// Whether further steps may follow.
    is_open: bool,
    /// Methods, each with the operation's name.
    operations: Vec<(String, String)>,
    /// The methods whose operations take a body.
    with_body: Vec<String>,
    /// The methods, for the `Allow` header.
    pub allow: String,
}

impl Route {
    fn new(template: &str, operations: Vec<(String, String)>, with_body: Vec<String>) -> Self {
        let mut methods: Vec<&str> = operations.iter().map(|(method, _)| method.as_str()).collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.sort_unstable();
        let allow = methods.join(", ");
        let (bare, is_open) = match template.strip_suffix('*') {
            Some(bare) => (bare, true),
            None => (template, false),
        };
        let steps = steps(bare).map(str::to_owned).collect();
        Self { template: template.into(), steps, is_open, operations, with_body, allow }
    }

    /// Whether a path matches this route. The caller compares the number of steps: equal, or more
    /// if the route is open.
    fn fits(&self, given: &[&str]) -> bool {
        let is_value = |step: &str, given: &str| step.starts_with('{') && !given.is_empty();
        self.steps.iter().zip(given).all(|(step, given)| is_value(step, given) || step == given)
    }

    /// Whether the operation of a method takes a body.
    #[must_use]
    pub fn takes_body(&self, method: &str) -> bool {
        self.with_body.iter().any(|it| it == method)
    }

    /// The name of a method's operation.
    #[must_use]
    pub fn operation(&self, method: &str) -> Option<&str> {
        let method = if method == "HEAD" { "GET" } else { method };
        self.operations.iter().find(|(it, _)| it == method).map(|(_, name)| name.as_str())
    }
}

/// The steps of a path, as the router sees them: it takes one slash at the end, and an empty step
/// matches nothing.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_root = path.is_empty();
    path.split('/').filter(move |_| !is_root)
}

/// The most steps of a path that is looked up.
const MAX_STEPS: usize = 12;

/// All paths of the API.
#[derive(Debug)]
pub struct Routes {
    /// The routes by their number of steps; in each list, a literal step comes before a parameter.
    by_steps: [Vec<Arc<Route>>; MAX_STEPS],
    /// The routes that any further steps may follow.
    open: Vec<Arc<Route>>,
    base_path: String,
}

impl Routes {
    /// Builds the routes of the description, and of the documentation pages.
    #[must_use]
    pub fn new(document: &Value, base_path: &str) -> Self {
        let mut routes = Self {
            by_steps: std::array::from_fn(|_| Vec::new()),
            open: Vec::new(),
            base_path: base_path.to_owned(),
        };
        let paths = document.get("paths").and_then(Value::as_object);
        for (path, operations) in paths.into_iter().flatten() {
            let operations = operations.as_object().into_iter().flatten();
            let with_body = operations
                .clone()
                .filter(|(_, operation)| operation.get("requestBody").is_some())
                .map(|(method, _)| method.to_uppercase())
                .collect();
            let operations = operations
                .filter_map(|(method, operation)| {
                    let name = operation.get("operationId")?.as_str()?;
                    Some((method.to_uppercase(), name.to_owned()))
                })
                .collect();
            routes.add(Route::new(path, operations, with_body));
        }
        let read = vec![("GET".to_owned(), "readDocumentation".to_owned())];
        routes.add(Route::new("/docs/*", read, Vec::new()));
        for routes in &mut routes.by_steps {
            // `{` sorts after all letters.
            routes.sort_by(|a, b| a.steps.cmp(&b.steps));
        }
        routes
    }

    fn add(&mut self, route: Route) {
        let routes = match self.by_steps.get_mut(route.steps.len()) {
            Some(routes) if !route.is_open => routes,
            _ => &mut self.open,
        };
        routes.push(Arc::new(route));
    }

    /// The rest of a path below the base path. The base path is whole steps.
    fn below_base<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(self.base_path.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }

    /// The route of a path. Compares it with the routes of as many steps, without an allocation.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Arc<Route>> {
        let path = self.below_base(path)?;
        let (mut given, mut count) = ([""; MAX_STEPS], 0);
        for step in steps(path) {
            // No route is that long.
            *given.get_mut(count)? = step;
            count += 1;
        }
        let given = given.get(..count)?;
        let exact = self.by_steps.get(count)?.iter().find(|route| route.fits(given));
        let is_below = |route: &&Arc<Route>| count >= route.steps.len() && route.fits(given);
        exact.or_else(|| self.open.iter().find(is_below))
    }
}

/// Shorter words are contained in too many others.
const MIN_PART_CHARS: usize = 3;

/// Whether a step may be meant as another: it is a part of it (`policies` for
/// `filtering-policies`), or misspelt.
fn is_like(given: &str, step: &str) -> bool {
    let is_part = given.len() >= MIN_PART_CHARS && (step.contains(given) || given.contains(step));
    is_part || nearest(given, [step].into_iter()).is_some()
}

impl Routes {
    /// The route nearest to an unknown path: with as many steps, and with the given values for its
    /// parameters. `None` if no route is similar.
    #[must_use]
    pub fn nearest(&self, path: &str) -> Option<String> {
        let given: Vec<&str> = steps(self.below_base(path)?).take(MAX_STEPS).collect();
        let routes = self.by_steps.get(given.len())?;
        let others = |route: &Route| -> Option<usize> {
            let mut others = 0;
            for (given, step) in given.iter().zip(&route.steps) {
                let step = &**step;
                // An id is a number: a word in its place belongs to another route.
                let fits = if step.starts_with('{') {
                    !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_digit())
                } else {
                    *given == step || is_like(given, step)
                };
                others += usize::from(!step.starts_with('{') && *given != step);
                if !fits {
                    return None;
                }
            }
            Some(others)
        };
        let candidates = routes.iter().filter_map(|route| Some((others(route)?, route)));
        let (_, route) = candidates.min_by_key(|(others, _)| *others)?;
        let filled = given
            .iter()
            .zip(&route.steps)
            .map(|(given, step)| if step.starts_with('{') { *given } else { &**step });
        let filled: Vec<&str> = filled.collect();
        let end = if route.template.ends_with('/') { "/" } else { "" };
        Some(format!("{}/{}{end}", self.base_path, filled.join("/")))
    }
}

/// The name of a known method; a method that a client made up gets none of its own.
#[must_use]
pub fn method_name(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_have_templates() {
        let get = |name: &str| json!({"get": {"operationId": name}});
        let document = json!({"paths": {
            "/firewalls/": {"get": {"operationId": "list"}, "post": {"operationId": "create", "requestBody": {}}},
            "/firewalls/{firewall_id}/": get("one"),
            "/firewalls/{firewall_id}/rules/{rule_id}/": get("rule"),
            "/firewalls/{firewall_id}/rules/batch": {"post": {"operationId": "batch"}},
            "/metrics": get("metrics"),
        }});
        let routes = Routes::new(&document, "/ff");
        let find = |path: &str| routes.find(path).map(|route| route.template.to_string());
        for (path, template) in [
            ("/ff/firewalls/", Some("/firewalls/")),
            ("/ff/firewalls", Some("/firewalls/")),
            ("/ff/firewalls/7/", Some("/firewalls/{firewall_id}/")),
            ("/ff/firewalls/x/rules/9/", Some("/firewalls/{firewall_id}/rules/{rule_id}/")),
            ("/ff/firewalls/x/rules/batch", Some("/firewalls/{firewall_id}/rules/batch")),
            ("/ff/docs", Some("/docs/*")),
            ("/ff/docs/swagger-ui", Some("/docs/*")),
            ("/ff/firewalls/7/8/9/10", None),
            ("/ff/", None),
            ("/ff", None),
            ("/fffirewalls/", None),
            ("/ff//firewalls/", None),
            ("/ff/firewalls//", None),
            ("/ff/firewalls//rules/9/", None),
            ("/firewalls/", None),
        ] {
            assert_eq!(find(path).as_deref(), template, "{path}");
        }
        let firewalls = routes.find("/ff/firewalls/").unwrap();
        assert_eq!(firewalls.allow, "GET, HEAD, POST");
        assert_eq!(firewalls.operation("HEAD"), Some("list"));
        assert_eq!(firewalls.operation("PUT"), None);
        assert!(firewalls.takes_body("POST") && !firewalls.takes_body("GET"));
        assert_eq!(routes.find("/ff/firewalls/x/rules/batch").unwrap().allow, "POST");
        for (path, meant) in [
            ("/ff/firewal/", Some("/ff/firewalls/")),
            ("/ff/firewalls/7/rule/9", Some("/ff/firewalls/7/rules/9/")),
            ("/ff/firewalls/7/rules/bulk", None),
            ("/ff/metric/", Some("/ff/metrics")),
            ("/ff/users/", None),
            ("/ff/firewalls/7/users/9", None),
            ("/firewal/", None),
            ("/ff/", None),
            ("/ff", None),
            ("/fffirewalls/", None),
            ("/ff//firewalls/", None),
            ("/ff/firewalls//", None),
            ("/ff/firewalls//rules/9/", None),
        ] {
            assert_eq!(routes.nearest(path).as_deref(), meant, "{path}");
        }
    }
}
