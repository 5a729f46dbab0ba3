// Package azblob is an object store in a container of Azure Blob Storage, or of a server that speaks its protocol. Objects are block blobs.
//
// A tag is an ETag, new with every write. Each call is one request and is tried once; package retry adds the rest.
package azblob

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/internal/remote"
)

// Store is one prefix of a container.
type Store struct {
	container *container.Client
	transport *http.Transport
	prefix    string
	gate      remote.Gate
}

var _ objstore.Store = (*Store)(nil)

func (s *Store) blob(key string) *blockblob.Client {
	return s.container.NewBlockBlobClient(s.prefix + key)
}

func answer(err error) (status int, code string) {
	var r *azcore.ResponseError
	if errors.As(err, &r) {
		return r.StatusCode, r.ErrorCode
	}
	return 0, ""
}

// absent tells whether there is no blob. An answer without a body may have no code.
func absent(err error) bool {
	status, code := answer(err)
	return status == http.StatusNotFound && code != string(bloberror.ContainerNotFound) && code != string(bloberror.ResourceNotFound)
}

func failure(op, key string, write bool, err error) error {
	status, code := answer(err)
	if status == http.StatusConflict && strings.HasPrefix(code, "Lease") || status == http.StatusPreconditionFailed && strings.HasPrefix(code, "Lease") {
		status = http.StatusForbidden // somebody leased it; we never do
	}
	return remote.Call{Op: op, Key: key, Write: write, Status: status, Code: code, Err: err}.Error()
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, objstore.Tag, error) {
	if err := objstore.ValidKey("get", key); err != nil {
		return nil, "", err
	}
	if err := s.gate.Pass(ctx, "get", key); err != nil {
		return nil, "", err
	}
	r, err := s.blob(key).DownloadStream(ctx, nil)
	if absent(err) {
		return nil, "", &objstore.Error{Op: "get", Key: key, Kind: objstore.ErrNotFound}
	}
	if err != nil {
		return nil, "", failure("get", key, false, err)
	}
	defer r.Body.Close()
	data, err := remote.ReadBody("get", key, r.Body, value(r.ContentLength))
	return data, tagOf(r.ETag), err
}

// GetRange implements objstore.Store.
func (s *Store) GetRange(ctx context.Context, key string, off, n int64) ([]byte, error) {
	const op = "get range of"
	if err := objstore.ValidRange(op, key, off, n); err != nil {
		return nil, err
	}
	if err := s.gate.Pass(ctx, op, key); err != nil {
		return nil, err
	}
	r, err := s.blob(key).DownloadStream(ctx, &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: off, Count: n}})
	if status, _ := answer(err); status == http.StatusRequestedRangeNotSatisfiable {
		return nil, remote.Short(key, off, n)
	}
	if absent(err) {
		return nil, &objstore.Error{Op: op, Key: key, Kind: objstore.ErrNotFound}
	}
	if err != nil {
		return nil, failure(op, key, false, err)
	}
	defer r.Body.Close()
	if value(r.ContentLength) < n {
		return nil, remote.Short(key, off, n)
	}
	return remote.ReadBody(op, key, r.Body, n)
}

// Head implements objstore.Store.
func (s *Store) Head(ctx context.Context, key string) (objstore.Info, error) {
	if err := objstore.ValidKey("head", key); err != nil {
		return objstore.Info{}, err
	}
	if err := s.gate.Pass(ctx, "head", key); err != nil {
		return objstore.Info{}, err
	}
	p, err := s.blob(key).GetProperties(ctx, nil)
	if absent(err) {
		return objstore.Info{}, &objstore.Error{Op: "head", Key: key, Kind: objstore.ErrNotFound}
	}
	if err != nil {
		return objstore.Info{}, failure("head", key, false, err)
	}
	return objstore.Info{Key: key, Size: value(p.ContentLength), Tag: tagOf(p.ETag), Modified: value(p.LastModified)}, nil
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte, cond objstore.Cond) (objstore.Tag, error) {
	if err := objstore.ValidPut("put", key, len(data), cond); err != nil {
		return "", err
	}
	if err := s.gate.Pass(ctx, "put", key); err != nil {
		return "", err
	}
	o := &blockblob.UploadOptions{}
	if cond.Absent() {
		o.AccessConditions = onlyIf(blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)})
	} else if tag, ok := cond.Match(); ok {
		o.AccessConditions = onlyIf(blob.ModifiedAccessConditions{IfMatch: to.Ptr(azcore.ETag(`"` + string(tag) + `"`))})
	}
	r, err := s.blob(key).Upload(ctx, streaming.NopCloser(bytes.NewReader(data)), o)
	if err == nil {
		return tagOf(r.ETag), nil
	}
	return "", refused(key, cond, err)
}

func onlyIf(c blob.ModifiedAccessConditions) *blob.AccessConditions {
	return &blob.AccessConditions{ModifiedAccessConditions: &c}
}

func refused(key string, cond objstore.Cond, err error) error {
	_, match := cond.Match()
	unmet := bloberror.HasCode(err, bloberror.ConditionNotMet, bloberror.TargetConditionNotMet)
	switch {
	case cond.Absent() && (unmet || bloberror.HasCode(err, bloberror.BlobAlreadyExists)):
		return &objstore.Error{Op: "put", Key: key, Kind: objstore.ErrExists}
	case match && (unmet || absent(err)):
		return &objstore.Error{Op: "put", Key: key, Kind: objstore.ErrChanged}
	}
	return failure("put", key, true, err)
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := objstore.ValidKey("delete", key); err != nil {
		return err
	}
	if err := s.gate.Pass(ctx, "delete", key); err != nil {
		return err
	}
	_, err := s.blob(key).Delete(ctx, &blob.DeleteOptions{DeleteSnapshots: to.Ptr(blob.DeleteSnapshotsOptionTypeInclude)})
	if err != nil && !absent(err) {
		return failure("delete", key, true, err)
	}
	return nil
}

// List implements objstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string, yield func(objstore.Info) bool) error {
	if err := objstore.ValidPrefix("list", prefix); err != nil {
		return err
	}
	o := &container.ListBlobsFlatOptions{Prefix: to.Ptr(s.prefix + prefix)}
	if after != "" {
		o.StartFrom = to.Ptr(s.prefix + after) // a server that does not know it lists all, which only takes longer
	}
	for pages := s.container.NewListBlobsFlatPager(o); pages.More(); {
		if err := s.gate.Pass(ctx, "list", prefix); err != nil {
			return err
		}
		page, err := pages.NextPage(ctx)
		if err != nil {
			return failure("list", prefix, false, err)
		}
		for _, b := range page.Segment.BlobItems {
			key := strings.TrimPrefix(value(b.Name), s.prefix)
			if key <= after || objstore.ValidKey("list", key) != nil {
				continue
			}
			p := value(b.Properties)
			if !yield(objstore.Info{Key: key, Size: value(p.ContentLength), Tag: tagOf(p.ETag), Modified: value(p.LastModified)}) {
				return nil
			}
		}
	}
	return nil
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func tagOf(e *azcore.ETag) objstore.Tag { return remote.Unquote(string(value(e))) }

// Close implements objstore.Store.
func (s *Store) Close() error {
	s.gate.Close()
	s.transport.CloseIdleConnections()
	return nil
}
