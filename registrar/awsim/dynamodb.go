package awsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/certmill/certmill/registrar/jitr"
)

// The tables of DynamoDB are allow-lists: their key is certificate_id, and every table is there.
const tableKey = "certificate_id"

// item is a row as DynamoDB has it, attribute its value: an object with the type for a key, as {"S":"text"}.
type item map[string]attribute

type attribute map[string]any

func (a attribute) equal(b attribute) bool { return reflect.DeepEqual(a, b) }

// itemOf makes an item of a JSON object.
func itemOf(object map[string]any) item {
	it := item{}
	for k, v := range object {
		switch v := v.(type) {
		case string:
			it[k] = attribute{"S": v}
		case bool:
			it[k] = attribute{"BOOL": v}
		case float64:
			it[k] = attribute{"N": fmt.Sprint(v)}
		}
	}
	return it
}

// row gives the item as the handler knows it.
func (it item) row() (row jitr.Row, err error) {
	plain := map[string]any{}
	for k, a := range it {
		for _, v := range a {
			plain[k] = v
		}
	}
	data, err := json.Marshal(plain)
	if err != nil {
		return row, err
	}
	return row, json.Unmarshal(data, &row)
}

// id gives the item's key.
func (it item) id() (string, error) {
	id, _ := it[tableKey]["S"].(string)
	if err := limitID.check(id); err != nil || id != strings.ToLower(id) {
		return "", badItem("%s is not 64 lower-case hex digits: %q", tableKey, id)
	}
	return id, nil
}

func badItem(format string, args ...any) error {
	return refuse(http.StatusBadRequest, "ValidationException", format, args...)
}

func dynamoOperations() []operation {
	return []operation{
		{name: "DescribeTable", serve: describeTable},
		{name: "GetItem", serve: getItem},
		{name: "PutItem", write: true, serve: putItem},
		{name: "UpdateItem", write: true, serve: updateItem},
		{name: "DeleteItem", write: true, serve: deleteItem},
		{name: "BatchWriteItem", write: true, serve: batchWriteItem},
	}
}

// json10 is the protocol of DynamoDB.
type json10 struct{}

const json10Type = "application/x-amz-json-1.0"

func (json10) answer(w http.ResponseWriter, _ string, result any) error {
	return writeJSON(w, http.StatusOK, json10Type, result)
}

func (json10) fail(w http.ResponseWriter, e *apiError) error {
	return writeJSON(w, e.status, json10Type, object{"__type": "com.amazonaws.dynamodb.v20120810#" + e.code, "message": e.message})
}

// routeTarget makes the handler of a service that routes by the header X-Amz-Target.
func (s *Sim) routeTarget(prefix string, operations []operation) http.Handler {
	byName := map[string]*operation{}
	for _, op := range operations {
		byName[prefix+"."+op.name] = &op
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		op, ok := byName[r.Header.Get("X-Amz-Target")]
		if !ok {
			s.write(json10{}.fail(w, notSimulated(r.Header.Get("X-Amz-Target"))))
			return
		}
		s.perform(w, r, json10{}, op)
	})
}

// itemInput is the body of the operations on one item.
type itemInput struct {
	TableName                 string
	Key, Item                 item
	UpdateExpression          string
	ConditionExpression       string
	ExpressionAttributeNames  map[string]string
	ExpressionAttributeValues map[string]attribute
}

// readItem decodes the body and finds the item that is there.
func (c *call) readItem() (in itemInput, key string, there *item, err error) {
	if err := c.decode(&in); err != nil {
		return in, "", nil, err
	}
	target := in.Key
	if in.Item != nil {
		target = in.Item
	}
	id, err := target.id()
	if err != nil {
		return in, "", nil, err
	}
	key = allowKey(c.place, in.TableName, id)
	if there, err = allowItems.get(c.tx, key); err != nil {
		return in, key, nil, err
	}
	return in, key, there, in.check(there)
}

func describeTable(c *call) (any, error) {
	var in struct{ TableName string }
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	return object{"Table": object{
		"TableName": in.TableName, "TableStatus": "ACTIVE",
		"TableArn":             "arn:aws:dynamodb:" + c.region + ":" + c.account + ":table/" + in.TableName,
		"KeySchema":            []object{{"AttributeName": tableKey, "KeyType": "HASH"}},
		"AttributeDefinitions": []object{{"AttributeName": tableKey, "AttributeType": "S"}},
	}}, nil
}

func getItem(c *call) (any, error) {
	_, _, there, err := c.readItem()
	if err != nil || there == nil {
		return object{}, err
	}
	return object{"Item": there}, nil
}

func putItem(c *call) (any, error) {
	in, key, _, err := c.readItem()
	if err != nil {
		return nil, err
	}
	return object{}, allowItems.put(c.tx, key, &in.Item)
}

func deleteItem(c *call) (any, error) {
	_, key, _, err := c.readItem()
	if err != nil {
		return nil, err
	}
	return object{}, allowItems.delete(c.tx, key)
}

func updateItem(c *call) (any, error) {
	in, key, there, err := c.readItem()
	if err != nil {
		return nil, err
	}
	if there == nil {
		there = &in.Key
	}
	if err := in.apply(*there); err != nil {
		return nil, err
	}
	return object{}, allowItems.put(c.tx, key, there)
}

// maxBatch is how many writes a BatchWriteItem has at most.
const maxBatch = 25

func batchWriteItem(c *call) (any, error) {
	var in struct {
		RequestItems map[string][]struct {
			PutRequest    *struct{ Item item }
			DeleteRequest *struct{ Key item }
		}
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	for name, requests := range in.RequestItems {
		if len(requests) > maxBatch {
			return nil, badItem("Too many items requested for the BatchWriteItem call")
		}
		for _, r := range requests {
			if r.PutRequest == nil {
				return nil, badItem("only PutRequest is simulated in a batch")
			}
			id, err := r.PutRequest.Item.id()
			if err != nil {
				return nil, err
			}
			if err := allowItems.put(c.tx, allowKey(c.place, name, id), &r.PutRequest.Item); err != nil {
				return nil, err
			}
		}
	}
	return object{"UnprocessedItems": object{}}, nil
}

// name resolves the aliases of an expression.
func (in *itemInput) name(n string) string {
	if alias, ok := in.ExpressionAttributeNames[n]; ok {
		return alias
	}
	return n
}
