//! A trace collector that accepts and discards everything it receives.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use poem::http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::TcpListener;

/// Starts the collector in its own thread; it runs until the process ends.
pub(crate) fn start() -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let server = auto::Builder::new(TokioExecutor::new());
                let service = hyper::service::service_fn(take);
                tokio::spawn(async move {
                    drop(server.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
    });
    told.recv().unwrap()
}

async fn take(
    request: Request<Incoming>,
) -> Result<Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>, Infallible> {
    let mut body = request.into_body();
    // The body is read and discarded.
    while let Some(Ok(frame)) = body.frame().await {
        drop(frame);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let message = Full::new(Bytes::from_static(&[0; 5]));
    let body = message.with_trailers(async move { Some(Ok(trailers)) }).boxed();
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(response.body(body).unwrap_or_default())
}
