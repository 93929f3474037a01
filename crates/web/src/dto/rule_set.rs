//! The whole rule set of a policy: its body.

use fireflow_domain::ids::PolicyId;
use fireflow_domain::usecase::rule_set::GivenRule;
use fireflow_formats::rule::SetReading;
use fireflow_formats::rule_export::LineFormat;
use fireflow_formats::rule_set::{RuleSetFormat, rule_set};
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::body::{NDJSON, check_media_type, essence};
use super::lines::described;
use super::rule::RuleBody;
use crate::problem::Problem;
use crate::reply::JSON;
use crate::upload::Upload;

/// The schema of a rule of a set.
pub const RULE: &str = "FirewallRuleOfSet";

/// A rule set as received: an array or a list in JSON, or the lines of an export.
#[derive(Debug)]
pub struct RuleSetBody {
    upload: Upload,
    format: RuleSetFormat,
}

impl<'a> ApiExtractor<'a> for RuleSetBody {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        Vec::<RuleBody>::register(registry);
        // `openapi::schemas` completes this schema with that of a new rule.
        registry.create_schema::<Self, _>(RULE.to_owned(), |_| MetaSchema::new("object"));
    }

    fn request_meta() -> Option<MetaRequest> {
        let rule = MetaSchemaRef::Reference(RULE.to_owned());
        let set = MetaSchema { items: Some(Box::new(rule)), ..MetaSchema::new("array") };
        let schema = MetaSchemaRef::Inline(Box::new(set));
        let content = vec![
            MetaMediaType { content_type: JSON, schema },
            described(
                LineFormat::Csv,
                "A whole export: a header, and one line per rule (RFC 4180)",
            ),
            described(LineFormat::Ndjson, "A whole export: one rule per line"),
        ];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let csv = LineFormat::Csv.media_type();
        check_media_type(request, &[JSON, NDJSON[0], NDJSON[1], csv])?;
        let given = request.content_type().map(essence).unwrap_or_default();
        let is_any = |names: &[&str]| names.iter().any(|name| given.eq_ignore_ascii_case(name));
        let format = if is_any(&NDJSON) {
            RuleSetFormat::Ndjson
        } else if is_any(&[csv]) {
            RuleSetFormat::Csv
        } else {
            RuleSetFormat::Json
        };
        Ok(Self { upload: Upload::open(request, body)?, format })
    }
}

impl RuleSetBody {
    /// Receives and reads the set, rule by rule.
    ///
    /// # Errors
    /// Returns all violations, each with its index; `partial` if the body is marked as a part of a
    /// list; or the reason that the body was not received (see [`Upload::decode`]).
    pub async fn read(
        self,
        policy: PolicyId,
        reading: SetReading,
    ) -> Result<Vec<GivenRule>, Problem> {
        let Self { upload, format } = self;
        upload.decode(move |bytes, meter| rule_set(bytes, format, policy, reading, meter)).await
    }
}
