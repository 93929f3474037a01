//! The answers to refused tokens.

use fireflow_auth::Refusal;
use poem::http::header;

use crate::problem::{Code, Problem};

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        const CHALLENGE: &str = "Bearer realm=\"fireflow\"";
        let (challenge, detail) = match refusal {
            Refusal::Missing => {
                (CHALLENGE.to_owned(), "send a token: `Authorization: Bearer …`".to_owned())
            }
            Refusal::NotBearer => (
                CHALLENGE.to_owned(),
                "the `Authorization` header does not begin with `Bearer `: send \
                 `Authorization: Bearer …` with the token after it"
                    .to_owned(),
            ),
            Refusal::Invalid => (
                format!("{CHALLENGE}, error=\"invalid_token\""),
                "the token is not valid".to_owned(),
            ),
            Refusal::Unfit(_, why) => {
                (format!("{CHALLENGE}, error=\"invalid_token\", error_description=\"{why}\""), why)
            }
            Refusal::NoRole => {
                return Self::new(Code::Forbidden, "the token names no role");
            }
        };
        Self::new(Code::Unauthenticated, detail).with_header(header::WWW_AUTHENTICATE, challenge)
    }
}
