//! A runtime with scripted replies, on its own socket.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use http::Response;
use tokio::net::UnixListener;

use super::*;

/// What the runtime sends: chunks of a body, and the status behind it.
#[derive(Default)]
struct Script {
    name: &'static str,
    chunks: Vec<Vec<u8>>,
    trailers: Vec<(&'static str, &'static str)>,
}

fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), bytes].concat()
}

fn response(ids: &[String]) -> Vec<u8> {
    let items = ids.iter().map(|id| PodSandbox { id: id.clone() }).collect();
    message(&ListPodSandboxResponse { items }.encode_to_vec())
}

fn version(name: &str) -> Vec<u8> {
    message(&VersionResponse { runtime_name: name.into() }.encode_to_vec())
}

fn place() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("podwired-cri-{}-{number}", std::process::id()))
}

async fn answered(script: Script) -> Result<Reply, CriError> {
    let path = place();
    let listener = UnixListener::bind(&path).unwrap();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(request) = connection.accept().await {
            let Ok((request, mut respond)) = request else { return };
            let (chunks, trailers) = match request.uri().path() {
                "/runtime.v1.RuntimeService/Version" => (vec![version(script.name)], vec![("grpc-status", "0")]),
                "/runtime.v1.RuntimeService/ListPodSandbox" => (script.chunks.clone(), script.trailers.clone()),
                other => panic!("{other} is asked for"),
            };
            tokio::spawn(async move {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                for chunk in chunks {
                    stream.send_data(Bytes::from(chunk), false).unwrap();
                }
                let headers = trailers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
                stream.send_trailers(headers.collect()).unwrap();
            });
        }
        // The connection has ended, and so has the question.
        std::future::pending::<()>().await;
    };
    let answer = tokio::select! {
        answer = list_sandboxes(&path) => answer,
        () = serve => unreachable!(),
    };
    std::fs::remove_file(&path).unwrap();
    answer
}

#[tokio::test]
async fn a_long_list_with_unknown_fields_is_read_whole() {
    let ids: Vec<_> = (0..3000).map(|number| format!("{number:064x}")).collect();
    let mut whole = response(&ids);
    // A field that is not read: number 4, a varint.
    whole.extend([0x20, 0x07]);
    let length = u32::try_from(whole.len() - PREFIX).unwrap().to_be_bytes();
    whole[1..PREFIX].copy_from_slice(&length);
    let chunks = whole.chunks(10_000).map(<[u8]>::to_vec).collect();
    let answer = answered(Script { name: "containerd", chunks, trailers: vec![("grpc-status", "0")] }).await;
    let expected = Listing { name: "containerd".into(), sandboxes: ids.into_iter().collect() };
    assert_eq!(answer.unwrap(), Reply::Listing(expected));
    let none =
        answered(Script { chunks: vec![message(&[])], trailers: vec![("grpc-status", "0")], ..Script::default() })
            .await;
    assert_eq!(none.unwrap(), Reply::Listing(Listing::default()));
}

#[tokio::test]
async fn an_error_is_never_an_empty_list() {
    let with = |chunks: Vec<Vec<u8>>, trailers| answered(Script { chunks, trailers, name: "" });
    let ok = || vec![("grpc-status", "0")];
    for cut in [vec![], vec![0, 0], message(&[0x0a, 0x7f]), response(&["a".into()])[..6].to_vec()] {
        let answer = with(vec![cut.clone()], ok()).await;
        assert!(answer.is_err(), "{cut:?}: {answer:?}");
    }
    let why = with(vec![], vec![("grpc-status", "2"), ("grpc-message", "server is not initialized yet")]).await;
    let why = why.unwrap_err();
    assert!(matches!(why.cause, Cause::Grpc { .. }), "{why:?}");
    assert!(why.to_string().ends_with("gRPC status 2, server is not initialized yet"), "{why}");
    let why = with(vec![message(&[])], vec![("something", "else")]).await.unwrap_err();
    assert!(matches!(why.cause, Cause::NoGrpc), "{why:?}");
    assert_eq!(with(vec![], vec![("grpc-status", "12")]).await.unwrap(), Reply::NoCri);
    let refused = list_sandboxes(&place()).await.unwrap_err().to_string();
    assert!(
        refused.starts_with("list the pod sandboxes of the container runtime at /") && refused.contains("No such file"),
        "{refused}"
    );
}
