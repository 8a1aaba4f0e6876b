//! Flags of `sonde tokens`.

use super::{Format, Target};
use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Tokens {
    #[command(subcommand)]
    pub(crate) action: TokensAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokensAction {
    /// Make a token and print it; it is shown this once
    Create(TokensCreate),
    /// List tokens, without their secrets
    List {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        format: Format,
    },
    /// Make a token useless at once
    Revoke {
        /// Id of the token, as `sonde tokens list` shows it
        id: String,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokensCreate {
    /// What the token is for
    #[arg(long, env = "SONDE_KIND", value_enum)]
    pub(crate) kind: TokenKind,
    /// How long the token is good, such as 30d, 12h or 45m; until it is revoked when not given
    #[arg(long, env = "SONDE_EXPIRES", value_name = "TIME", value_parser = duration)]
    pub(crate) expires: Option<u64>,
    /// How many nodes may join with the token; any number when not given
    #[arg(long, env = "SONDE_USES", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) uses: Option<u32>,
    /// Environment of the nodes that join with the token, such as production
    #[arg(long, env = "SONDE_ENVIRONMENT", value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// What to call the token in the list
    #[arg(long, env = "SONDE_NAME", value_name = "NAME", default_value = "")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenKind {
    /// A controller: reports, and fetches what is wanted
    Join,
    /// A sender of OTLP
    Ingest,
    /// A script or a command line on another machine
    Api,
}

impl TokenKind {
    /// The word of the API.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Ingest => "ingest",
            Self::Api => "api",
        }
    }
}

/// Seconds of `30d`, `12h`, `45m` or `90s`.
fn duration(text: &str) -> Result<u64, String> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400), ('w', 604_800)];
    let seconds = units.into_iter().find_map(|(unit, seconds)| {
        text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(seconds)
    });
    match seconds {
        Some(seconds) if seconds > 0 => Ok(seconds),
        _ => Err("must be a number and a unit of s, m, h, d or w, such as 30d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(duration("30d"), Ok(2_592_000));
        assert_eq!(duration("90s"), Ok(90));
        for bad in ["", "d", "30", "0d", "-1h", "1y", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
