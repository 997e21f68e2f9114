//! Where credentials are found, and in which order.

use std::path::Path;
use std::time::{Duration, Instant};

use super::raw_server::{RawRequest, RawServer, Reply, bare_reply, reply};
use crate::aws_credentials::{AwsCredentials, CredentialSource};
use crate::http_client::HttpClient;
use crate::{RemoteError, RemoteLimits, S3Options, Secret, TlsOptions};

const CREDENTIALS: &str = "\
# comment
[default]
aws_access_key_id = file-default
aws_secret_access_key=s1
[ work ]
aws_access_key_id = file-work
aws_secret_access_key = s2 
aws_session_token = t2
[empty]
";

const CONFIG: &str = "\
[profile config]
region = eu-west-1
s3 =
  aws_access_key_id = nested
aws_access_key_id = config
aws_secret_access_key = s3
[profile sso]
sso_session = x
";

fn client() -> HttpClient {
    HttpClient::new(false, &TlsOptions::default(), &RemoteLimits::default()).unwrap()
}

fn environment(home: &Path, more: &[(&str, &str)]) -> Vec<(String, Secret)> {
    let base = [("HOME", home.to_str().unwrap()), ("AWS_EC2_METADATA_DISABLED", "true")];
    more.iter().chain(&base).map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect()
}

async fn find(options: S3Options) -> Result<AwsCredentials, RemoteError> {
    CredentialSource::new(options, "us-east-1".into(), RemoteLimits::default()).get(&client()).await
}

fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    std::fs::write(home.path().join(".aws/credentials"), CREDENTIALS).unwrap();
    std::fs::write(home.path().join(".aws/config"), CONFIG).unwrap();
    home
}

#[tokio::test]
async fn given_keys_come_before_profiles_and_variables() {
    let home = home();
    let variables = [("AWS_ACCESS_KEY_ID", "env"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let with_variables = environment(home.path(), &variables);
    let without = environment(home.path(), &[]);
    let named = environment(home.path(), &[("AWS_PROFILE", "work")]);
    let given = Some(("given".to_owned(), Secret::new("s")));
    let profile = |name: &str| Some(name.to_owned());
    let cases = [
        (given, profile("work"), &with_variables, "given"),
        (None, profile("work"), &with_variables, "file-work"),
        (None, profile("config"), &with_variables, "config"),
        (None, None, &with_variables, "env"),
        (None, None, &without, "file-default"),
        (None, None, &named, "file-work"),
    ];
    for (access_key, profile, environment, expected) in cases {
        let environment = environment.clone();
        let found = find(S3Options { access_key, profile, environment, ..S3Options::default() }).await;
        assert_eq!(found.unwrap().access_key, expected);
    }
    let work = S3Options { profile: profile("work"), environment: without.clone(), ..S3Options::default() };
    let work = find(work).await.unwrap();
    assert_eq!((work.secret_key.reveal(), work.session_token.unwrap().reveal()), ("s2", "t2"));
    for (name, expected) in [("empty", "no keys for the profile `empty`"), ("sso", "`sso_session`")] {
        let environment = without.clone();
        let error = find(S3Options { profile: profile(name), environment, ..S3Options::default() }).await;
        assert!(error.unwrap_err().to_string().contains(expected));
    }
}

#[tokio::test]
async fn a_machine_without_credentials_does_not_wait() {
    let home = tempfile::tempdir().unwrap();
    let hanging = RawServer::start(|_| Reply::BytesAndHang(Vec::new())).await;
    let address = format!("http://127.0.0.1:{}", hanging.port);
    let mut environment = environment(home.path(), &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &address)]);
    environment.retain(|(name, _)| name != "AWS_EC2_METADATA_DISABLED");
    let limits = RemoteLimits { connect: Duration::from_millis(200), ..RemoteLimits::default() };
    let options = S3Options { environment, ..S3Options::default() };
    let source = CredentialSource::new(options, "us-east-1".into(), limits);
    let begun = Instant::now();
    for _ in 0..20 {
        let error = source.get(&client()).await.unwrap_err();
        assert!(error.to_string().contains("no AWS credentials"), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(2));
}

/// Plays all services of AWS that have credentials. The first of them expire soon.
fn services(request: &RawRequest) -> Reply {
    let json = |key: &str| {
        let text = format!(
            r#"{{"AccessKeyId":"{key}","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}}"#
        );
        reply(200, "", text.as_bytes())
    };
    match (request.method.as_str(), request.path.as_str()) {
        ("PUT", "/latest/api/token") => reply(200, "", b"imds-token"),
        ("GET", path) if path.starts_with("/latest/") => {
            assert_eq!(request.header("x-aws-ec2-metadata-token"), Some("imds-token"));
            if path.ends_with('/') { reply(200, "", b"role") } else { json("machine") }
        }
        ("GET", "/agent") if request.header("authorization") == Some("agent-token") => json("agent"),
        ("POST", "/sts") => {
            let form = String::from_utf8(request.body.clone()).unwrap();
            assert!(
                form.contains("RoleArn=arn%3Aaws%3Arole&") && form.ends_with("WebIdentityToken=web%2Dtoken")
            );
            let text = "<R><AccessKeyId>identity</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
                        <SessionToken>t</SessionToken><Expiration>2020-01-01T00:00:00Z</Expiration></R>";
            reply(200, "", text.as_bytes())
        }
        _ => bare_reply(403),
    }
}

#[tokio::test]
async fn services_of_aws_are_asked() {
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token");
    std::fs::write(&token, "web-token\n").unwrap();
    let token = token.to_str().unwrap();
    let server = RawServer::start(services).await;
    let at = |path: &str| format!("http://127.0.0.1:{}{path}", server.port);
    let (machine, agent, sts) = (at("/"), at("/agent"), at("/sts"));
    let identity = [
        ("AWS_ROLE_ARN", "arn:aws:role"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token),
        ("AWS_ENDPOINT_URL_STS", &sts),
    ];
    let container = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "agent-token"),
    ];
    let metadata = [("AWS_EC2_METADATA_DISABLED", "no"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &machine)];
    // Expired credentials are looked for again.
    for (variables, expected, requests) in [(&identity[..], "identity", 2), (&metadata[..], "machine", 3)] {
        let environment = environment(home.path(), variables);
        let options = S3Options { environment, ..S3Options::default() };
        let source = CredentialSource::new(options, "us-east-1".into(), RemoteLimits::default());
        for _ in 0..2 {
            let found = source.get(&client()).await.unwrap();
            assert_eq!((found.access_key.as_str(), found.session_token.unwrap().reveal()), (expected, "t"));
        }
        assert_eq!(server.take_lines().len(), requests, "{expected}");
    }
    let options = S3Options { environment: environment(home.path(), &container), ..S3Options::default() };
    assert_eq!(find(options).await.unwrap().access_key, "agent");
    let elsewhere = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://203.0.113.1/")];
    let options = S3Options { environment: environment(home.path(), &elsewhere), ..S3Options::default() };
    assert!(find(options).await.unwrap_err().to_string().contains("without TLS"));
}
