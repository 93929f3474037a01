//! A minimal trace collector and error tracker. They keep all received requests, and answer like
//! the real ones.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use poem::http::{HeaderMap, HeaderValue, Request, Response};
use prost::Message;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::cluster::wait_until;

/// Longer than any request takes to arrive.
const PATIENCE: Duration = Duration::from_secs(120);

/// A received request.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Listens in its own thread until it is dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let kept = Arc::clone(&received);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = serve(listener, kept) => {}
                    _ = stopped => {}
                }
            });
        });
        let address = told.recv().unwrap();
        Self { address, received, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// All received spans, each with its resource.
    pub(crate) fn spans(&self) -> Vec<(Resource, Span)> {
        let mut spans = Vec::new();
        for Received { path, headers, body } in self.received() {
            let bytes = if path == "/v1/traces" {
                assert_eq!(headers["content-type"], "application/x-protobuf");
                body
            } else {
                assert_eq!(path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
                assert_eq!(headers["content-type"], "application/grpc");
                // The message follows a flag and a length.
                body.slice(5..)
            };
            let request = ExportTraceServiceRequest::decode(bytes).unwrap();
            for of_resource in request.resource_spans {
                let resource = of_resource.resource.unwrap();
                for of_scope in of_resource.scope_spans {
                    spans.extend(of_scope.spans.into_iter().map(|span| (resource.clone(), span)));
                }
            }
        }
        spans
    }

    /// The spans of a trace, once the span of the request is among them. That span ends last.
    pub(crate) fn trace(&self, trace_id: &str) -> Vec<Span> {
        let mut found = Vec::new();
        wait_until("the trace to arrive", PATIENCE, || {
            let spans = self.spans().into_iter().map(|(_, span)| span);
            found = spans.filter(|span| hex(&span.trace_id) == trace_id).collect();
            found.iter().any(|span| span.kind == 2)
        });
        found
    }

    /// The received events of an error tracker.
    pub(crate) fn events(&self) -> Vec<(Received, Value)> {
        let mut events = Vec::new();
        for received in self.received() {
            let text = String::from_utf8(received.body.to_vec()).unwrap();
            let mut lines = text.lines();
            // The headers of the envelope, followed by pairs of an item's headers and the item.
            lines.next().unwrap();
            while let (Some(header), Some(item)) = (lines.next(), lines.next()) {
                let header: Value = serde_json::from_str(header).unwrap();
                if header["type"] == "event" {
                    events.push((received.clone(), serde_json::from_str(item).unwrap()));
                }
            }
        }
        events
    }

    pub(crate) fn wait_for_events(&self, count: usize) -> Vec<(Received, Value)> {
        wait_until("the events to arrive", PATIENCE, || self.events().len() >= count);
        self.events()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.thread.take().map(std::thread::JoinHandle::join));
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An attribute of a span or resource, as text.
pub(crate) fn attribute(
    attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue],
    key: &str,
) -> Option<String> {
    let value = attributes.iter().find(|it| it.key == key)?.value.clone()?.value?;
    Some(match value {
        AnyValue::StringValue(text) => text,
        AnyValue::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

async fn serve(listener: TcpListener, kept: Arc<Mutex<Vec<Received>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let kept = Arc::clone(&kept);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: Request<_>| {
                let kept = Arc::clone(&kept);
                async move { Ok::<_, Infallible>(take(request, &kept).await) }
            });
            let server = auto::Builder::new(TokioExecutor::new());
            // A request that was cut off counts as not sent.
            drop(server.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn take(
    request: Request<hyper::body::Incoming>,
    kept: &Mutex<Vec<Received>>,
) -> Response<http_body_util::combinators::BoxBody<Bytes, Infallible>> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Response::new(Full::default().boxed()) };
    let is_grpc = parts.headers.get("content-type").is_some_and(|it| it == "application/grpc");
    let path = parts.uri.path().to_owned();
    let received = Received { path, headers: parts.headers, body: body.to_bytes() };
    kept.lock().unwrap().push(received);
    if !is_grpc {
        // An empty Protobuf message; the tracker accepts any body.
        return Response::new(Full::default().boxed());
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let message = Full::new(Bytes::from_static(&[0; 5]));
    let body = message.with_trailers(async move { Some(Ok(trailers)) }).boxed();
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}
